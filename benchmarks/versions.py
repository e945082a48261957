"""The cost of a version of the data: `dvc add`, `push` and `pull` of many small files and of the same cells in stacks.

Run with `fatescope bench versions`; about ten minutes and 3 GB of disk. FILES made-up cells of about a kilobyte, all
different, once as a file each and once in TIFF stacks of PAGES; the remote is a folder on the same disk. The peer is
`cp -r` of the same files. DVC has its default settings, which are the project's.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.report import Figure, publish
from fatescope.command import run

SEED = 0
FILES, PAGES = 100_000, 500


def draw(single: Path, stacked: Path) -> None:
    """Write FILES cells, once in files of their own and once in stacks."""
    rng = np.random.default_rng(SEED)
    for group in range(FILES // PAGES):
        pages = rng.normal(700, 10, (PAGES, 24, 30)).astype(np.uint16)
        target = single / f"a_1d{group}"
        target.mkdir(parents=True)
        for i, page in enumerate(pages):
            tifffile.imwrite(target / f"a_1d{group}_{i}_Ch1.ome.tif", page, metadata=None)
        stacked.mkdir(exist_ok=True)
        tifffile.imwrite(stacked / f"a_1d{group}_1_Ch1.ome.tif", pages, photometric="minisblack", metadata=None)


def seconds_of(*command: str | Path, at: Path) -> float:
    """Return the seconds that a command takes in the folder `at`."""
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), cwd=at, check=True, capture_output=True)
    return time.perf_counter() - start


def version(folder: Path, source: Path) -> dict[str, float]:
    """Return command → seconds: `cp`, and every command that versions `source` and fetches it elsewhere."""
    project, other, remote = folder / "project", folder / "other", folder / "remote"
    project.mkdir(parents=True)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "remote", "add", "-q", "-d", "r", remote]):
        seconds_of(*command, at=project)
    seconds = {"cp": seconds_of("cp", "-r", source, project / "data", at=folder)}
    # All files are in the page cache, for all commands alike; on another machine the first access is slower.
    seconds["add"] = seconds_of("dvc", "add", "-q", "data", at=project)
    seconds["status"] = seconds_of("dvc", "status", "-q", at=project)
    seconds["push"] = seconds_of("dvc", "push", "-q", at=project)
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("data", "cache", "tmp"))
    seconds["pull"] = seconds_of("dvc", "pull", "-q", at=other)
    assert sum(len(names) for _, _, names in os.walk(other / "data")) == sum(len(n) for _, _, n in os.walk(source))
    return seconds


def main() -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        draw(folder / "single", folder / "stacked")
        single, stacked = version(folder / "one", folder / "single"), version(folder / "two", folder / "stacked")
    figures = [Figure(f"seconds of cp -r, {FILES:,} files", single["cp"])]
    for step in ("add", "status", "push", "pull"):
        figures += [
            Figure(f"dvc {step}, {FILES:,} files, seconds", single[step]),
            Figure("the same over cp -r of the same files", single[step] / single["cp"]),
            Figure(f"the same, {FILES // PAGES} stacks of {PAGES} pages, seconds", stacked[step]),
        ]
    publish("versions", figures, ["dvc", "dvc-data"], SEED)


if __name__ == "__main__":
    run(main)
