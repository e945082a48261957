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

from benchmarks.memory import measure
from benchmarks.report import Figure, publish
from fatescope.command import run
from fatescope.data import images

SEED = 0
FILES = 10_000
REPEATS = 3
FEW, MANY = 20_000, 200_000


def draw(folder: Path, count: int, distinct: int) -> list[Path]:
    """Write `count` single-cell TIFFs, `distinct` of them different and the others links to those, 1,000 a group."""
    rng, paths = np.random.default_rng(SEED), list[Path]()
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
    """Decode with the decoder of the project."""
    for path in paths:
        images.decode(path.read_bytes(), path.name, 1_000_000)


def parallel_seconds(loop: Callable[[list[Path]], None], paths: list[Path]) -> float:
    """Return the wall time of `loop` in two processes, each on half of `paths`; their start is not counted."""
    with get_context("spawn").Pool(2) as pool:
        pool.map(loop, [[], []], chunksize=1)
        return seconds_of(lambda: pool.map(loop, [paths[::2], paths[1::2]], chunksize=1))


def start_ingest(data: Path, target: Path) -> "subprocess.Popen[bytes]":
    """Start the stage as `dvc repro` does."""
    options = "--params", "params.yaml", "--data", str(data), "--out", str(target)
    command = [sys.executable, "-m", "pipelines.stages.ingest", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall time that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ingest_seconds(data: Path, target: Path, startup_s: float) -> float:
    """Return the seconds that the stage takes beyond `startup_s`, the time to start Python and import it."""
    return seconds_of(lambda: start_ingest(data, target).wait()) - startup_s


def main() -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        paths = draw(folder / "speed", FILES, FILES)
        importing = [sys.executable, "-c", "import pipelines.stages.ingest"]
        seconds: dict[str, list[float]] = {"ours": [], "one": [], "two": [], "own": [], "own_two": []}
        for _ in range(REPEATS + 1):
            startup_s = seconds_of(lambda: subprocess.run(importing, check=True))
            seconds["ours"].append(ingest_seconds(folder / "speed", folder / "cells", startup_s))
            seconds["one"].append(seconds_of(lambda: tifffile_loop(paths)))
            seconds["two"].append(parallel_seconds(tifffile_loop, paths))
            seconds["own"].append(seconds_of(lambda: own_loop(paths)))
            seconds["own_two"].append(parallel_seconds(own_loop, paths))
        # The first round warms the page cache and is not counted.
        medians = {key: median(values[1:]) for key, values in seconds.items()}
        memory = {}
        for count in (FEW, MANY):
            draw(folder / f"memory{count}", count, 2000)
            _, memory[count] = measure(start_ingest(folder / f"memory{count}", folder / "cells"))
    publish(
        "ingest",
        [
            Figure(
                "ingest over one tifffile loop, without the start of Python", medians["one"] / medians["ours"], ">= 1.7"
            ),
            Figure("ingest over two tifffile loops in parallel, likewise", medians["two"] / medians["ours"], ">= 0.85"),
            Figure("ingest over one loop of our own decoder", medians["own"] / medians["ours"]),
            Figure("ingest over two loops of our own decoder", medians["own_two"] / medians["ours"]),
            Figure("files a second", FILES / medians["ours"]),
            Figure(f"peak memory at {MANY:,} over {FEW:,} cells", memory[MANY] / memory[FEW], "<= 1.15"),
            Figure(f"peak memory at {MANY:,} cells, MB", memory[MANY]),
        ],
        ["numpy", "tifffile", "imagecodecs", "pyarrow"],
        SEED,
    )


if __name__ == "__main__":
    run(main)
