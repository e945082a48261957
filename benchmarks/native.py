"""Speed and memory of native files of instruments: decoding, ingest and scoring, beside plain loops over the same file.

Run with `fatescope bench native`, a few minutes; `--objects 1000000` takes about an hour and 20 GB of disk. A .cif of
six channels with masks is drawn, whose objects are DISTINCT ones with one pixel changed. The loops decode the
brightfield channel of each object, and with its mask compute its features as ingest does, those of what lies inside and
outside of the mask included, in this process or in two, and nothing else. The model is an untrained ResNet18 at 60x60:
what it says means nothing, but it takes its time. Ingest and scoring are measured without the start of processes and of
the engine: by how much longer all objects take than a tenth of them, which from 100,000 on are enough for ingest to
start as many processes. Scoring gets a fifth of the objects, because the network takes a millisecond or two of each.
Peak memory is that of all processes, at all objects over a tenth of them.

The peer is python-bioformats, where `--peer-python` names an interpreter that has it. Both read PEER_OBJECTS objects of
the same kind one after the other: a channel, a channel with its mask as ingest does, and all channels with their masks.
Its virtual machine of Java is started, the file is open and some objects are read before its clock starts; ours opens
the file within its time, and counts as the slower of a run before and one after. The bar is of the processor time of
the thread that reads: on a machine that does nothing else that is the time by the clock, and it leaves out what Java
compiles and collects in other threads. Pixels and masks of every hundredth object must be the same. Of javabridge there
are no wheels; it is built with a JDK (Debian: `apt install openjdk-17-jdk-headless gcc`) and Python 3.11:

    python3.11 -m venv PEER
    PEER/bin/pip install 'setuptools<70' wheel 'Cython<3' 'numpy<2'
    JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64 PEER/bin/pip install --no-build-isolation python-bioformats
    fatescope bench native --peer-python PEER/bin/python
"""

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import native_peer
from benchmarks.memory import measure
from benchmarks.report import Figure, publish
from fatescope.command import run
from fatescope.data import features
from fatescope.data.native.objects import NativeObject, Place
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.inference import bundle
from pipelines.ingestion.native_reader import describe_mask
from service.batch import job
from service.inference import engines
from service.settings import ServiceSettings
from tests.support import native
from tests.support.bundles import CLASSES
from tests.support.untrained import write_bundle

SEED = 0
DISTINCT = 2_000
CHANNELS, BRIGHTFIELD = (1, 2, 3, 4, 5, 6), 6
NOISE = 1.0
"""Counts, as of a real file, which decides how long its numbers are."""
WARM = 64
"""Objects that are decoded before anything is measured."""
CORES, CHUNK, BATCH = 2, 128, 64
MOST_PIXELS = 1_000_000
PEER_OBJECTS = 5_000


def draw(path: Path, count: int) -> Path:
    """Write a .cif of `count` objects, which may be more than 4 GiB."""
    drawn = native.draw_objects(min(count, DISTINCT), CHANNELS, SEED, noise=NOISE)
    xml = native.acquisition_xml(CHANNELS, (BRIGHTFIELD,))
    first, *parts = native.parts(drawn, xml=xml, runs=("a_1d1",))
    first[0][33018] = (4, [count])
    numbers = [native.second_differences(np.concatenate(list(pixels), axis=1)) for pixels, _ in drawn]
    starts = [native.as_nibbles(of_one[:-1]) for of_one in numbers]
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8))
        at = file.write(native.directory(8, *first, 2 * count)) + 8
        for i, (entries, data) in enumerate(islice(cycle(parts), 2 * count)):
            number, is_mask = divmod(i, 2)
            if is_mask:
                stream, own = data, {}
            else:
                # The last number is that of the last pixel alone, which makes all objects different.
                which = number % len(drawn)
                last = native.as_nibbles(numbers[which][-1:] + number // len(drawn))
                stream = native.pack_nibbles(np.concatenate([starts[which], last]))
                own = {33003: (4, [number]), 279: (4, [len(stream)])}
            at += file.write(native.directory(at, entries | own, stream, 2 * count - 1 - i))
    return path


def decode(path: Path, start: Place | None, count: int) -> None:
    """Decode the brightfield channel of `count` objects."""
    with path.open("rb") as raw:
        file = NativeFile(raw, path.name)
        for place in islice(file.places(start), count):
            assert isinstance(file.read(place, [BRIGHTFIELD], MOST_PIXELS), NativeObject)


def decode_and_describe(path: Path, start: Place | None, count: int) -> None:
    """Decode the same with its mask, and compute its features and those of objects of one size, as ingest does."""
    with path.open("rb") as raw:
        file = NativeFile(raw, path.name)
        places = islice(file.places(start), count)
        while chunk := list(islice(places, CHUNK)):
            alike: dict[tuple[int, ...], list[np.ndarray]] = {}
            for place in chunk:
                found = file.read(place, [BRIGHTFIELD], MOST_PIXELS, masks=True)
                assert isinstance(found, NativeObject)
                describe_mask(found, 0)
                alike.setdefault(found.images.shape, []).append(found.images[0])
            for crops in alike.values():
                features.acquisition(np.stack(crops), BIT_DEPTH)


def seconds_of(function: Callable[[], object]) -> float:
    """Return the wall time that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rate(loop: Callable[[Path, Place | None, int], None], path: Path, count: int, processes: int) -> float:
    """Return the objects a second of a loop in so many processes, whose start is not counted."""
    with path.open("rb") as raw:
        share = -(-count // processes)
        starts = list(NativeFile(raw, path.name, 512).starts(share))
    if processes == 1:
        return count / seconds_of(lambda: loop(path, None, count))
    with get_context("spawn").Pool(processes) as pool:
        pool.starmap(loop, [(path, None, 1)] * processes, chunksize=1)
        return count / seconds_of(lambda: pool.starmap(loop, [(path, start, share) for start in starts], chunksize=1))


def engine_rate(model: Path, count: int) -> float:
    """Return the cells a second that the engine classifies on all cores, from memory."""
    loaded, _ = engines.start(model, ServiceSettings.read().engine, CORES)
    pixels = np.random.default_rng(SEED).normal(200, 5, (BATCH, *loaded.spec.canvas)).astype(np.uint16)
    batches = max(8, min(count, 4_000) // BATCH)

    def classify() -> None:
        for _ in range(batches):
            loaded.predict(pixels)

    return batches * BATCH / seconds_of(classify)


def ingest(data: Path, target: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory, MB, of the stage."""
    options = "--params", "params.yaml", "--data", str(data), "--out", str(target)
    command = [sys.executable, "-m", "pipelines.stages.ingest", *options]
    return measure(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def score(data: Path, out: Path, model: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory, MB, of batch scoring."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "fatescope.cli", "score", str(data), "--out", str(out), "--model", str(model)]
    return measure(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def main(
    objects: Annotated[int, typer.Option(help="Objects of the file.", min=1_000)] = 100_000,
    peer_python: Annotated[Path | None, typer.Option(help="An interpreter that has python-bioformats.")] = None,
) -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        write_bundle(folder / "model", "multiclass", CLASSES, backbone="resnet18", input_size=(60, 60))
        few, paths = objects // 5, dict[int, Path]()
        for count in {WARM, few // 10, few, objects // 10, objects}:
            (folder / str(count)).mkdir()
            paths[count] = draw(folder / str(count) / "a_1d1.cif", count)
        some = few
        decode(paths[WARM], None, WARM)  # warms up
        decoded = {processes: rate(decode, paths[some], some, processes) for processes in (1, CORES)}
        described = {processes: rate(decode_and_describe, paths[some], some, processes) for processes in (1, CORES)}
        engine = engine_rate(folder / "model", objects)
        beside_peer = native_peer.figures(
            peer_python, draw(folder / "peer.cif", PEER_OBJECTS), PEER_OBJECTS, BRIGHTFIELD
        )
        ingested, ingest_memory = runs(lambda count: ingest(paths[count].parent, folder / "cells"), objects)
        scored, score_memory = runs(lambda count: score(paths[count].parent, folder / "out", folder / "model"), few)
        summary = (folder / "out" / job.SUMMARY).read_text(encoding="utf-8")
        assert f'"cells": {few}' in summary, summary
        size = paths[objects].stat().st_size
        assert bundle.open_spec(folder / "model").bit_depths == [BIT_DEPTH]
    publish(
        "native",
        [
            Figure("ingest over decoding plus features in two processes", ingested / described[CORES], ">= 0.85"),
            Figure("scoring over the slower of decoding and engine", scored / min(decoded[CORES], engine), ">= 0.85"),
            Figure(f"peak memory of ingest at {objects:,} over {objects // 10:,}", ingest_memory[0], "<= 1.15"),
            Figure(f"peak memory of scoring at {few:,} over {few // 10:,}", score_memory[0], "<= 1.15"),
            *beside_peer,
            Figure("objects that a core decodes a second, one of six channels", decoded[1]),
            Figure("objects that two processes decode a second", decoded[CORES]),
            Figure("objects that a core decodes and describes a second", described[1]),
            Figure("objects that two processes decode and describe a second", described[CORES]),
            Figure("cells that the engine classifies a second", engine),
            Figure("objects that ingest reads a second", ingested),
            Figure("objects that are scored a second", scored),
            Figure("peak memory of ingest, MB", ingest_memory[1]),
            Figure("peak memory of scoring, MB", score_memory[1]),
            Figure("bytes an object in the file", size / objects),
        ],
        ["numpy", "pyarrow", "openvino", "onnxruntime"],
        SEED,
    )


def runs(command: Callable[[int], tuple[float, float]], objects: int) -> tuple[float, tuple[float, float]]:
    """Return the objects a second beyond the first tenth, and the peak memory over that of a tenth, and in MB."""
    some_s, some = command(objects // 10)
    all_s, many = command(objects)
    return (objects - objects // 10) / (all_s - some_s), (many / some, many)


if __name__ == "__main__":
    run(main)
