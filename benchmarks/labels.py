"""What networks learn from few labels, small images and time.

Run with `fatescope bench labels --sets FOLDER`, where the folder holds `malaria.zip`, `jurkat_ifc.zip` and
`mobilenet_v2_imagenet.safetensors`. `python -m benchmarks.labels --part NAME` runs one part, and
`reports/bench/labels.json` keeps what it has of the others. With `--small`, few cells: it checks the program, and marks
each of its figures as no measurement, without a bar.

A part is a module of `benchmarks.few_labels` with a function `measure(sets)` that returns rows; add it to PARTS, and
its two markers to the page. Nothing is chosen on test cells.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.accuracy import SEED
from benchmarks.few_labels import distilled, ensembles, instrument, lineages, pretrain, stems, time, transfer
from benchmarks.few_labels.sets import Sets
from benchmarks.report import MARK, publish, unmeasured
from benchmarks.tables import Row, fill, table, to_figures
from fatescope.command import run
from fatescope.errors import FatescopeError

PAGE = Path("docs/explanation/few-labels.md")

PARTS: dict[str, Callable[[Sets], list[Row]]] = {
    "transfer": transfer.measure,
    "pretrain": pretrain.measure,
    "instrument": instrument.measure,
    "stems": stems.measure,
    "ensembles": ensembles.measure,
    "time": time.measure,
    "lineages": lineages.measure,
    "distilled": distilled.measure,
}
"""Part → what returns its rows; `<!-- labels:PART -->` and `<!-- end -->` are around its table on the page."""


def main(
    sets: Annotated[Path, typer.Option(help="Folder of the archives and weights.")] = Path("../shared/data"),
    part: Annotated[list[str] | None, typer.Option(help="Run this part alone; may be given several times.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps the sets as they were ingested, for the next run.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Check the program on few cells; nothing is measured.")
    ] = False,
) -> None:
    """Measure, print and write the figures and the tables."""
    if unknown := sorted(set(part or ()) - set(PARTS)):
        raise FatescopeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    cells = Sets(sets, work, small)
    for name in part or PARTS:
        rows = PARTS[name](cells)
        figures, begin = to_figures(name, rows), f"{name}: "
        if small:
            figures, begin = unmeasured(figures), f"[{MARK}] {begin}"
        publish("labels", figures, ["torch", "scikit-learn"], SEED, keep=begin)
        if not small:
            fill(PAGE, {f"labels:{name}": table(rows)})


if __name__ == "__main__":
    run(main)
