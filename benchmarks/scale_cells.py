"""A million cells through ingest and batch scoring beside what bounds them, for `benchmarks.scale`.

DISTINCT cells are drawn and linked until there are MANY files, so that there are a million names and files but fewer
pixels; the files are in the page cache in both cases. The model is ResNet18 at 60x60, trained briefly
(`benchmarks.service`). The limit is the same graph on the same files in this process or in two, without anything around
it: files are decoded and classified in batches, and nothing is listed, assessed or written.

A worker of batch scoring decodes in a thread beside the one in which its network runs, so that one worker with one
thread for the network takes more than one core, and two of them are compared with two plain loops.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks import service
from benchmarks.memory import measure
from benchmarks.report import Figure
from benchmarks.scale_stages import link
from fatescope import config
from fatescope.data import images
from fatescope.data.crops import center
from fatescope.inference import bundle
from pipelines.commands import simulate
from service.batch import job
from service.inference import engines
from service.settings import ServiceSettings

SEED = 0
MANY, FEW = 1_000_000, 100_000
DISTINCT = 20_000
BATCH = 64
CORES = 2
BILLION = 1e9
GPU_SHARE = 0.3
"""Assumed share of the peak of a GPU that a ResNet reaches on images this small."""
GPU_TFLOPS = 65.0
"""Peak of an NVIDIA T4 in fp16, by its data sheet; nothing here was measured on a GPU."""


def draw(folder: Path, cells: int = DISTINCT) -> list[Path]:
    """Simulate `cells` cells below `folder` and return their files."""
    settings = config.load(service.ROOT / "params.yaml").simulate
    simulate.simulate(
        settings.model_copy(update={"cells": cells, "marker_channels": 0, "darkfield": False, "seed": SEED}), folder
    )
    return sorted(folder.rglob("*_Ch1.ome.tif"))[:cells]


def decode_and_classify(model: Path, paths: list[Path], threads: int) -> None:
    """Decode and classify files, and write the seconds to a file of the folder FATESCOPE_BOUND."""
    loaded, _ = engines.start(model, ServiceSettings.read().engine, threads)
    began = time.perf_counter()
    for start in range(0, len(paths), BATCH):
        centred = []
        for path in paths[start : start + BATCH]:
            [(_, pixels)] = images.decode(path.read_bytes(), "cell", 1_000_000)
            centred.append(center(pixels, loaded.spec.canvas, "cell"))
        loaded.predict(np.stack(centred))
    (Path(os.environ["FATESCOPE_BOUND"]) / str(os.getpid())).write_text(str(time.perf_counter() - began))


def limit(model: Path, paths: list[Path], processes: int) -> float:
    """Return the cells per second of `decode_and_classify` on all cores with so many processes, without loading."""
    with tempfile.TemporaryDirectory() as results:
        os.environ["FATESCOPE_BOUND"] = results
        context = get_context("spawn")
        shares = [paths[i::processes] for i in range(processes)]
        running = [
            context.Process(target=decode_and_classify, args=(model, share, CORES // processes)) for share in shares
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
            assert process.exitcode == 0
        return len(paths) / max(float(path.read_text()) for path in Path(results).iterdir())


def decoding(paths: list[Path]) -> float:
    """Return the files per second that one core decodes."""
    start = time.perf_counter()
    for path in paths:
        images.decode(path.read_bytes(), "cell", 1_000_000)
    return len(paths) / (time.perf_counter() - start)


def ingest(data: Path, target: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory, MB, of the stage."""
    shutil.rmtree(target, ignore_errors=True)
    options = "--params", "params.yaml", "--data", str(data), "--out", str(target)
    command = [sys.executable, "-m", "pipelines.stages.ingest", *options]
    return measure(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def score(data: Path, out: Path, model: Path, *options: str) -> tuple[float, float]:
    """Return the seconds and the peak memory, MB, of batch scoring, the start of Python and of the model included."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "fatescope.cli",
        "score",
        str(data),
        "--out",
        str(out),
        "--model",
        str(model),
        *options,
    ]
    return measure(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def size(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def arithmetic(measured: dict[str, float]) -> list[tuple[str, str, str]]:
    """Return what BILLION cells need: (what, how it is computed, amount)."""
    core, hour = measured["scored"] / CORES, 3600
    gpu = GPU_SHARE * GPU_TFLOPS * 1e12 / (2 * measured["multiply_adds"])
    return [
        ("Images of the export", f"{measured['raw']:,.0f} bytes a file", f"{BILLION * measured['raw'] / 1e12:.1f} TB"),
        (
            "The store of `ingest`",
            f"{measured['stored']:,.0f} bytes a cell",
            f"{BILLION * measured['stored'] / 1e12:.1f} TB",
        ),
        ("Rows of batch scoring", f"{measured['row']:.0f} bytes a cell", f"{BILLION * measured['row'] / 1e9:.0f} GB"),
        (
            "`ingest`, one machine like this",
            f"{measured['ingested']:,.0f} cells a second on {CORES} cores",
            f"{BILLION / measured['ingested'] / hour:,.0f} h",
        ),
        (
            "Batch scoring on CPUs",
            f"{core:,.0f} cells a second a core, decoding included",
            f"{BILLION / core / hour:,.0f} core hours; {BILLION / core / hour / 64:,.1f} h on 64 cores",
        ),
        (
            "the network on a GPU",
            f"not measured: {GPU_SHARE:.0%} of {GPU_TFLOPS:.0f} TFLOPS (T4, fp16) is {gpu:,.0f} cells a second",
            f"{BILLION / gpu / hour:,.1f} GPU hours",
        ),
        (
            "cores that decode for such a GPU",
            f"{measured['decoded']:,.0f} files a second a core",
            f"{gpu / measured['decoded']:.1f} cores a GPU, else it waits",
        ),
    ]


def figures() -> tuple[list[Figure], list[tuple[str, str, str]]]:
    """Return what was measured, and what `arithmetic` makes of it."""
    measured = dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        model = service.prepare(folder)
        distinct = draw(folder / "drawn")
        some, all_of_them = link(folder / "some", distinct, FEW), link(folder / "all", distinct, MANY)
        measured["multiply_adds"] = bundle.open_spec(model).cost["multiply_adds"]
        measured["decoded"] = decoding(distinct)
        limits = [limit(model, distinct, processes) for processes in (1, CORES)]
        one = FEW / score(some, folder / "out", model, "--workers", "1", "--threads", "1")[0]
        two = "--workers", "2", "--threads", "1"
        two_workers = score(some, folder / "out", model, *two)[0]
        tenth = link(folder / "tenth", distinct, FEW // 10)
        beside = (FEW - FEW // 10) / (two_workers - score(tenth, folder / "out", model, *two)[0])
        by_default, few_memory = score(some, folder / "out", model)
        seconds, memory = score(all_of_them, folder / "out", model)
        measured["scored"] = MANY / seconds
        rows = sum(pq.ParquetFile(path).metadata.num_rows for path in (folder / "out" / job.CELLS).glob("*.parquet"))
        measured["row"] = size(folder / "out" / job.CELLS) / rows
        _, few_ingest = ingest(some, folder / "cells")
        ingest_seconds, ingest_memory = ingest(all_of_them, folder / "cells")
        measured["ingested"] = MANY / ingest_seconds
        measured["stored"], measured["raw"] = size(folder / "cells") / MANY, size(folder / "drawn") / DISTINCT
    found = [
        Figure("batch scoring, a million cells, rate over the limit", measured["scored"] / max(limits), ">= 0.85"),
        Figure("rows that were written over cells", rows / MANY, ">= 1"),
        Figure(f"its peak memory at {MANY:,} over {FEW:,} cells", memory / few_memory, "<= 1.15"),
        Figure("its peak memory, MB", memory),
        Figure(f"{CORES} cores over one, {FEW:,} cells", FEW / by_default / one),
        Figure(f"two workers of a core over one of a core, {FEW:,} cells", FEW / two_workers / one),
        Figure("two workers of a core, without their start, over two such loops", beside / limits[1], ">= 0.95"),
        Figure("batch scoring, cells a second", measured["scored"]),
        Figure("limit, one process of two threads, cells a second", limits[0]),
        Figure("limit, two processes of one thread, cells a second", limits[1]),
        Figure("files that a core decodes a second", measured["decoded"]),
        Figure("ingest, cells a second", measured["ingested"]),
        Figure(f"peak memory of ingest at {MANY:,} over {FEW:,} cells", ingest_memory / few_ingest, "<= 1.15"),
        Figure("peak memory of ingest, MB", ingest_memory),
    ]
    return found, arithmetic(measured)
