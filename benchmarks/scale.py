"""A million cells through ingest and batch scoring, two million through every stage, and what a billion take.

Run with `fatescope bench scale`; some hours, and 20 GB of disk. `python -m benchmarks.scale --part NAME` runs one part:
`cells` (`benchmarks.scale_cells`; about an hour and 6 GB), `audit`, the time of the audit of many classes
(`benchmarks.scale_audit`), or `stages`, which runs every stage at two `--sizes`, on cells whose pixels repeat
(`benchmarks.scale_stages`). Each fills its tables in `docs/explanation/scale.md`, and `reports/bench/scale.json` keeps
what it has of the others.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import scale_audit, scale_cells, scale_stages
from benchmarks.report import Figure, publish
from benchmarks.tables import fill
from fatescope import config
from fatescope.command import run
from fatescope.errors import FatescopeError

PAGE = Path("docs/explanation/scale.md")
CELLS, AUDIT, STAGES = PARTS = ("cells", "audit", "stages")
_PACKAGES = ["openvino", "onnxruntime", "pyarrow", "imagecodecs", "scikit-learn"]


def stages(sizes: tuple[int, int]) -> list[Figure]:
    """Return how memory and time of every stage grow between two numbers of cells."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        # The first cells of a larger store would be of some classes alone.
        scale_cells.draw(Path(name) / "drawn", min(scale_stages.CELLS, *sizes))
        return scale_stages.compare(Path(name) / "drawn", sizes, scale_stages.all_stages())


def measure(part: str, sizes: tuple[int, int]) -> tuple[list[Figure], dict[str, str]]:
    """Return the figures of a part, and its tables for the page by the name of their markers."""
    if part == CELLS:
        figures, worked_out = scale_cells.figures()
        tables = {"arithmetic": _table([("What", "From", "Amount"), *worked_out])}
    else:
        figures, tables = scale_audit.figures() if part == AUDIT else stages(sizes), {}
    return figures, {f"scale:{name}": content for name, content in {part: to_table(figures), **tables}.items()}


def main(
    sizes: Annotated[tuple[int, int], typer.Option(help="Cells of the two stores on which stages are compared.")] = (
        scale_stages.SMALL,
        scale_stages.LARGE,
    ),
    part: Annotated[list[str] | None, typer.Option(help="Run this part alone; may be given several times.")] = None,
) -> None:
    """Measure, print and write the figures and the tables."""
    if unknown := sorted(set(part or ()) - set(PARTS)):
        raise FatescopeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    # It says from which folder to run, before minutes are spent.
    config.load(Path("params.yaml"))
    for name in part or PARTS:
        figures, tables = measure(name, sizes)
        named = [Figure(f"{name}: {figure.figure}", figure.value, figure.bar) for figure in figures]
        publish("scale", named, _PACKAGES, scale_cells.SEED, keep=f"{name}: ")
        fill(PAGE, tables)


def to_table(figures: list[Figure]) -> str:
    """Return figures as Markdown; those that miss their bar are marked."""
    marks = {True: "", False: ", **missed**", None: ""}
    rows = [(figure.figure, f"{figure.value:,.2f}", f"{figure.bar or ''}{marks[figure.holds]}") for figure in figures]
    return _table([("Figure", "Value", "Bar"), *rows])


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run(main)
