"""Native files read by python-bioformats and by us, an object at a time: how long that takes, and the same pixels."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Figure
from fatescope import plural
from fatescope.data.native.objects import NativeObject
from fatescope.data.native.reader import NativeFile

PROGRAM = Path(__file__).parent / "peers/bio_formats.py"
NOT_THERE = 3
"""Its exit code without python-bioformats."""
MOST_PIXELS = 1_000_000
BAR = ">= 10"


@dataclass(frozen=True)
class Case:
    """What is read of each object."""

    what: str
    channels: tuple[int, ...]
    masks: bool


def figures(python: Path | None, path: Path, objects: int, brightfield: int) -> list[Figure]:
    """Return how we compare with the python-bioformats of an interpreter; nothing, with a line why, without one.

    Raises AssertionError where the pixels of both differ.
    """
    if python is None:
        print("python-bioformats is not measured: --peer-python names no interpreter that has it")
        return []
    with path.open("rb") as raw:
        channels = NativeFile(raw, path.name).acquisition.channels
    cases = [
        Case("one channel", (brightfield,), masks=False),
        Case("one channel and its mask", (brightfield,), masks=True),
        Case(plural.count(len(channels), "channel and its mask", "channels and their masks"), channels, masks=True),
    ]
    wanted = [([channels.index(channel) for channel in case.channels], case.masks, objects) for case in cases]
    kept = path.with_suffix(".npz")
    before = [_read(path, case, objects) for case in cases]
    command = [str(python), str(PROGRAM), str(path), str(kept), json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NOT_THERE:
        print(f"python-bioformats is not measured: {python} cannot import it ({done.stderr.strip()})")
        return []
    assert done.returncode == 0, done.stderr
    peer = json.loads(done.stdout.splitlines()[-1])
    compared = _compare(path, kept, cases)
    print(
        f"Bio-Formats {peer['bioformats']}, Java {peer['java']}: the same pixels in {plural.count(compared, 'object')}"
    )
    result = []
    for case, theirs, first in zip(cases, peer["took"], before, strict=True):
        ours = [max(times) for times in zip(first, _read(path, case, objects), strict=True)]
        over = "over python-bioformats, processor time an object"
        result += [
            Figure(f"{case.what} {over}", theirs[0] / ours[0], BAR),
            Figure(f"{case.what}, the same by the clock", theirs[1] / ours[1]),
            Figure(f"{case.what}, ms an object: ours", 1e3 * ours[0] / objects),
            Figure(f"{case.what}, ms an object: python-bioformats", 1e3 * theirs[0] / objects),
        ]
    return [*result, Figure("s in which python-bioformats opens the file, which do not count", peer["opened"])]


def _read(path: Path, case: Case, objects: int) -> tuple[float, float]:
    """Return the seconds that we take to open the file and read its objects, of the thread and by the clock."""
    thread, clock = time.thread_time(), time.perf_counter()
    with path.open("rb") as raw:
        file, count = NativeFile(raw, path.name), 0
        for place in file.places():
            assert isinstance(file.read(place, case.channels, MOST_PIXELS, masks=case.masks), NativeObject)
            count += 1
    assert count == objects
    return time.thread_time() - thread, time.perf_counter() - clock


def _compare(path: Path, kept: Path, cases: list[Case]) -> int:
    """Hold the pixels that the peer kept to ours; return of how many objects they are."""
    with path.open("rb") as raw, np.load(kept) as theirs:
        file = NativeFile(raw, path.name)
        places = list(file.places())
        for key in theirs.files:
            case, position = map(int, key.split("-"))
            found = file.read(places[position], cases[case].channels, MOST_PIXELS, masks=cases[case].masks)
            assert isinstance(found, NativeObject)
            ours = [found.images] if found.masks is None else [found.images, found.masks]
            np.testing.assert_array_equal(theirs[key], np.concatenate(ours))
        return len(theirs.files)
