"""The cost of recording predictions: the same service with and without it, in turn, in one run.

Run with `fatescope bench watch`; about five minutes. The bundle and the load are those of `benchmarks.serving`.
"""

import tempfile
from pathlib import Path
from statistics import median

import pandas as pd

from benchmarks import service
from benchmarks.report import Figure, publish
from fatescope.command import run
from tests.support.servers import free_port, ready

TURNS = 3
SECONDS = 10


def rates(folder: Path, bundle: Path, raws: list[bytes], records: str) -> tuple[float, float, int]:
    """Return requests per second of /classify, cells per second of /classify_batch, and the cells with a response."""
    port = free_port()
    with service.serve(folder, bundle, port, records=records):
        ready(f"http://127.0.0.1:{port}/readyz")
        request = service.form("/classify", "image", raws[0])
        warm_up = service.load(folder, port, request, 3)
        measured = service.load(folder, port, request, SECONDS)
        in_batches = service.batches(port, raws)
    answered = sum(result["answers"]["200"] for result in (warm_up, measured)) + len(raws) * (service.REPEATS + 1)
    return measured["rate"], in_batches, answered


def main() -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        bundle = service.prepare(folder)
        raws = [path.read_bytes() for path in sorted((folder / "data").rglob("*_Ch1.ome.tif"))[: service.CELLS]]
        recording, silent, answered = [], [], 0
        for _ in range(TURNS):
            recording.append(rates(folder, bundle, raws, str(folder / "records")))
            silent.append(rates(folder, bundle, raws, "off"))
            answered += recording[-1][2]
        rows = sum(len(pd.read_parquet(path, columns=["time"])) for path in (folder / "records").glob("*/*.parquet"))
        size = sum(path.stat().st_size for path in (folder / "records").glob("*/*.parquet"))
    figures = [
        Figure(
            "/classify, requests a second with recording over without",
            median(turn[0] for turn in recording) / median(turn[0] for turn in silent), ">= 0.97",
        ),
        Figure(
            "/classify_batch, cells a second with recording over without",
            median(turn[1] for turn in recording) / median(turn[1] for turn in silent), ">= 0.97",
        ),
        Figure("rows that were recorded over cells that were answered", rows / answered, ">= 1"),
        Figure("/classify, requests a second without recording, lowest turn", min(turn[0] for turn in silent)),
        Figure("/classify, requests a second without recording, highest turn", max(turn[0] for turn in silent)),
        Figure("bytes a row on disk", size / rows),
    ]  # fmt: skip
    publish("watch", figures, ["bentoml", "pyarrow"], service.SEED)


if __name__ == "__main__":
    run(main)
