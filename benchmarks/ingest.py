"""Speed of ingest beside plain loops that only decode, and whether its memory grows with the number of cells.

Run with `fatescope bench ingest`. The peer is `tifffile.imread` in a loop, which is what its documentation shows; the
same loop with our own decoder is printed beside it. A loop only decodes; ingest also hashes, measures, centres and
writes every cell.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import tifffile

from benchmarks.memory import watched
from benchmarks.report import Figure, publish
from fatescope.command import run
from fatescope.data import images

SEED = 0
FILES = 10_000
REPEATS = 3
FEW, MANY = 20_000, 200_000


def draw(folder: Path, count: int, distinct: int) -> list[Path]:
    """Write `count` single-cell TIFFs, `distinct` of them different and the others links to those, 1,000 a group."""
    rng, paths = np.random.default_rng(SEED), []
    for i in range(count):
        sample = folder / f"a_1d{i // 1000}"
        sample.mkdir(parents=True, exist_ok=True)
        path = sample / f"{sample.name}_{i}_Ch1.ome.tif"
        if i < distinct:
            size = rng.integers(40, 56), rng.integers(50, 76)
            pixels = rng.normal(700, 10, size).astype(np.uint16)
            tifffile.imwrite(path, pixels, compression="zlib", metadata=None)
        else:
            os.link(paths[i % distinct], path)
        paths.append(path)
    return paths


def tifffile_loop(paths: list[Path]) -> None:
    """Decode as tifffile's documentation shows."""
    for path in paths:
        tifffile.imread(path)


def own_loop(paths: list[Path]) -> None:
    """Decode with the project's own decoder."""
    for path in paths:
        images.decode(path.read_bytes(), path.name, 1_000_000)


def side_by_side(loop: Callable[[list[Path]], None], paths: list[Path]) -> None:
    """Run `loop` on each half of `paths` in a process of its own."""
    context = get_context("fork")
    halves = [context.Process(target=loop, args=(paths[i::2],)) for i in range(2)]
    for each in halves:
        each.start()
    for each in halves:
        each.join()


def start_ingest(data: Path, target: Path) -> "subprocess.Popen[bytes]":
    """Start the stage as `dvc repro` does."""
    options = "--params", "params.yaml", "--data", str(data), "--out", str(target)
    command = [sys.executable, "-m", "pipelines.stages.ingest", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def timed(work: Callable[[], object]) -> float:
    """Return seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ingest_seconds(data: Path, target: Path, loaded: float) -> float:
    """Return the seconds that the stage takes beyond `loaded`, the time to start Python and import it."""
    return timed(lambda: start_ingest(data, target).wait()) - loaded


def main() -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        paths = draw(folder / "speed", FILES, FILES)
        importing = [sys.executable, "-c", "import pipelines.stages.ingest"]
        seconds: dict[str, list[float]] = {"ours": [], "one": [], "two": [], "own": [], "own_two": []}
        for _ in range(REPEATS + 1):
            loaded = timed(lambda: subprocess.run(importing, check=True))
            seconds["ours"].append(ingest_seconds(folder / "speed", folder / "cells", loaded))
            seconds["one"].append(timed(lambda: tifffile_loop(paths)))
            seconds["two"].append(timed(lambda: side_by_side(tifffile_loop, paths)))
            seconds["own"].append(timed(lambda: own_loop(paths)))
            seconds["own_two"].append(timed(lambda: side_by_side(own_loop, paths)))
        # The first round warms the page cache and is not counted.
        best = {key: median(values[1:]) for key, values in seconds.items()}
        memory = {}
        for count in (FEW, MANY):
            draw(folder / f"memory{count}", count, 2000)
            _, memory[count] = watched(start_ingest(folder / f"memory{count}", folder / "cells"))
    publish(
        "ingest",
        [
            Figure("ingest over one tifffile loop, start of Python left out", best["one"] / best["ours"], ">= 1.7"),
            Figure("ingest over two tifffile loops side by side, likewise", best["two"] / best["ours"], ">= 0.85"),
            Figure("ingest over one loop of our own decoder", best["own"] / best["ours"]),
            Figure("ingest over two loops of our own decoder", best["own_two"] / best["ours"]),
            Figure("files a second", FILES / best["ours"]),
            Figure(f"peak memory at {MANY:,} over {FEW:,} cells", memory[MANY] / memory[FEW], "<= 1.15"),
            Figure(f"peak memory at {MANY:,} cells, MB", memory[MANY]),
        ],
        ["numpy", "tifffile", "imagecodecs", "pyarrow"],
        SEED,
    )


if __name__ == "__main__":
    run(main)
