"""Peak memory and time of every stage from ingest to register at two sizes, for `benchmarks.scale`.

Ingest reads links to a few files. For the other stages a small ingested store is repeated until it has as many cells:
rows get other ids and pixel hashes, pixels repeat. What
counts is memory that a stage holds itself, with all processes that it starts: pages of mapped files are not counted,
because the system takes them back when it needs them. Training and search are cut short by their budget of time, and
see each cell at a fifth of its pixels, so that their seconds say nothing and only memory is compared.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.memory import measure, own_memory
from benchmarks.report import Figure
from fatescope.config import editing
from fatescope.data.dataset import MANIFEST, PIXELS, QUARANTINE, SUMMARY
from fatescope.errors import FatescopeError
from pipelines.stages import ingest

SMALL, LARGE = 200_000, 2_000_000
ROOM = 1.2
"""Free bytes on disk over those of the pixels, before a store is made."""
INGEST = "ingest"
TASK = "binary"
BAR = "<= 1.3"
ROW_GROUP = 2048
LAST_LINES = 20
"""Of what a stage that fails printed, which is lost with its folder."""
_STEP = np.uint64(0x9E3779B97F4A7C15)
CELLS = 4_000
"""Cells of the store that is repeated."""
BUDGETS: dict[str, dict[str, object]] = {
    # A small input, because millions of cells pass through the network several times.
    "train": {"epochs": 1, "minutes": 0.1, "input_size": [24, 24]},
    "tune": {"trials": 1, "startup_trials": 1, "epochs": 1, "min_epochs": 1, "minutes": 0.5},
    "calibrate": {"folds": 2},
    # Few cells of the store have the noise of few cells, and no stage is to end at a check.
    "validate": {"max_background_shift": 5.0},
}
"""Section → parameters that keep training and search short."""


def link(folder: Path, distinct: list[Path], count: int) -> Path:
    """Make `folder` an export of `count` files, links to the simulated ones, 1,000 in a folder."""
    for i, path in zip(range(count), itertools.cycle(distinct), strict=False):
        sample = folder / f"{path.name.split('_')[0]}_{i // 1000}"
        sample.mkdir(parents=True, exist_ok=True)
        medium, run = path.name.split("_")[:2]
        os.link(path, sample / f"{medium}_{run}_{i + 1}_Ch1.ome.tif")
    return folder


def repeat_store(source: Path, target: Path, count: int) -> Path:
    """Write to the folder `target` a store of `count` cells: those of `source` over and over, ids and hashes new."""
    target.mkdir(parents=True, exist_ok=True)
    table, pixels = pq.read_table(source / MANIFEST), np.load(source / PIXELS, mmap_mode="r")
    if (free := shutil.disk_usage(target).free) < ROOM * (needed := count * pixels[0].nbytes):
        raise FatescopeError(f"{target}: {needed / 1e9:.0f} GB are needed, but {free / 1e9:.0f} GB are free")
    with pq.ParquetWriter(target / MANIFEST, table.schema) as manifest, (target / PIXELS).open("wb") as images:
        header = {"descr": "<u2", "fortran_order": False, "shape": (count, *pixels.shape[1:])}
        np.lib.format.write_array_header_1_0(images, header)
        for start in range(0, count, len(table)):
            part = table.slice(0, count - start)
            manifest.write_table(_renamed(part, start // len(table)), ROW_GROUP)
            images.write(np.ascontiguousarray(pixels[: len(part)], np.uint16).data)
    shutil.copy(source / QUARANTINE, target / QUARANTINE)
    summary = json.loads((source / SUMMARY).read_text(encoding="utf-8"))
    summary |= {"cells": count, "data_hash": f"{summary['data_hash']}-{count}"}
    (target / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return target


def _renamed(table: pa.Table, copy: int) -> pa.Table:
    """Return rows as those of other cells; every copy but the first has hashes that no other one has."""
    names = {name: pc.binary_join_element_wise(f"{copy:05}", table[name], "/") for name in ("cell_id", "path")}
    # Arrays of unsigned numbers wrap.
    hashes = table["pixel_hash"].to_numpy().view(np.uint64) + np.full(len(table), copy, np.uint64) * _STEP
    for name, values in {**names, "pixel_hash": pa.array(hashes.view(np.int64))}.items():
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    return table


def commands(folder: Path, params: Path) -> dict[str, list[str]]:
    """Return stage → its options, for the cells in `folder / "cells"`, in the order of the flow."""
    at = {name: str(folder / name) for name in ("cells", "validation", "quality", "audit", "models", "plots", "card")}
    cells = ["--params", str(params), "--cells", at["cells"]]
    parts = ["--splits", str(folder / "splits.parquet")]
    of_task = [*cells, "--task", TASK]
    trained = ["--models", at["models"]]
    audit, metrics = ["--audit", f"{at['audit']}.json"], ["--metrics", str(folder / "metrics.json")]
    gates = ["--quality", f"{at['quality']}.parquet"]
    return {
        INGEST: ["--params", str(params), "--data", str(folder / "data"), "--out", str(folder / "ingested")],
        "validate": [*cells, "--out", f"{at['validation']}.json", "--docs", at["validation"]],
        "quality": [
            *cells, "--out", f"{at['quality']}.parquet", "--report", f"{at['quality']}.json", "--plots", at["quality"],
        ],
        "split": [*cells, *gates, "--out", str(folder / "splits.parquet")],
        "audit": [*cells, *parts, "--out", f"{at['audit']}.json", "--plots", at["audit"]],
        "tune": [
            *of_task, *parts, "--journal", str(folder / "journal.log"), "--out", str(folder / "best.json"),
            "--plots", at["plots"],
        ],
        "train": [*of_task, *parts, *gates, "--best", str(folder / "best.json"), "--out", at["models"]],
        "evaluate": [
            *of_task, *parts, *audit, *trained, "--predictions", str(folder / "models/predictions.parquet"),
            "--out", metrics[1], "--plots", at["plots"], "--tables", str(folder / "tables"),
        ],
        "card": [*of_task, *trained, *metrics, *audit, "--plots", at["plots"], "--out", at["card"]],
        "register": [
            *of_task, *parts, *trained, *metrics, *audit, "--card", str(folder / "card/card"),
            "--out", str(folder / "gate.json"),
        ],
    }  # fmt: skip


def run_stages(folder: Path, params: Path, stages: list[str]) -> dict[str, tuple[float, float]]:
    """Run the stages on the cells of `folder`; return stage → seconds and peak memory, MB."""
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder.resolve()}/mlflow.db"}
    found = {}
    for stage, options in commands(folder, params).items():
        if stage not in stages:
            continue
        with (folder / f"{stage}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"pipelines.stages.{stage}", *options],
                stdout=log, stderr=subprocess.STDOUT, env=os.environ | own,
            )  # fmt: skip
            try:
                found[stage] = measure(process, own_memory)
            except AssertionError as error:
                lines = (folder / f"{stage}.log").read_text(encoding="utf-8", errors="replace").splitlines()
                reason = "\n".join(["", *lines[-LAST_LINES:]])
                raise FatescopeError(f"the stage {stage} failed on {folder.name} cells:{reason}") from error
        print(f"{folder.name} {stage}: {found[stage][0]:.1f} s, {found[stage][1]:.0f} MB", flush=True)
    return found


def compare(drawn: Path, sizes: tuple[int, int], stages: list[str]) -> list[Figure]:
    """Run the stages on cells of the export `drawn`, over and over, and return how memory and time grow."""
    found: dict[int, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        params, source = Path(name) / "params.yaml", Path(name) / "source"
        shutil.copy("params.yaml", params)
        settings = editing.set_fields(params, BUDGETS)
        ingest.ingest(settings.dataset, settings.ingest, drawn, source)
        for count in sizes:
            folder = Path(name) / f"{count}"
            found[count] = ingest_links(drawn, folder, params, count) if INGEST in stages else {}
            repeat_store(source, folder / "cells", count)
            found[count] |= run_stages(folder, params, [stage for stage in stages if stage != INGEST])
            shutil.rmtree(folder)
    small, large = sizes
    figures = []
    for stage in found[large]:
        (quick, few), (slow, many) = found[small][stage], found[large][stage]
        at = f"at {large:,} over {small:,} cells"
        figures += [
            Figure(f"{stage}: peak memory {at}", many / few, BAR),
            Figure(f"{stage}: peak memory at {large:,} cells, MB", many),
            Figure(f"{stage}: seconds {at}", slow / quick, None),
        ]
    return figures


def ingest_links(drawn: Path, folder: Path, params: Path, count: int) -> dict[str, tuple[float, float]]:
    """Run the stage ingest on `count` links to the files of the export `drawn`, and keep nothing of it."""
    link(folder / "data", sorted(drawn.rglob("*_Ch1.ome.tif")), count)
    found = run_stages(folder, params, [INGEST])
    for name in ("data", "ingested"):
        shutil.rmtree(folder / name)
    return found


def all_stages() -> list[str]:
    """Return the stages that are compared, in the order of the flow."""
    return list(commands(Path(), Path()))
