"""What running a model takes: time and energy of a thousand cells on the machine that made the card, and their cost."""

import platform
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.data.batches import batched
from fatescope.energy import PROCESSOR, EnergyMeter
from fatescope.inference.bundle import Bundle
from pipelines.evaluation.report import Report
from pipelines.settings import PipelineSettings

FILE = "running.json"
MEASURED, BATCH = 1_000, 64
"""Cells that are run, or all where there are fewer; and cells in a batch, as the service has them under load."""


class RunningCost(Report):
    """What a thousand cells take, without reading and decoding them."""

    cells: int
    """Cells that were measured."""
    threads: int
    """CPU threads that ran the network, in ONNX Runtime."""
    processor: str
    """Name of the processor."""
    seconds: float
    """Wall-clock time of 1,000 cells."""
    energy_wh: float | None
    """Energy of 1,000 cells: of all processor packages, whatever else ran on them; None where it cannot be read."""
    cost: float | None
    """Of 1,000 cells, by the prices in the environment; None without any, or without the energy that one is for."""


def measure(
    model: Bundle,
    pixels: npt.NDArray[np.uint16],
    threads: int,
    settings: PipelineSettings,
    meter: EnergyMeter | None = None,
) -> RunningCost:
    """Run the model on the first (N, …) cells and return what a thousand take; N is at least 1."""
    cells = min(len(pixels), MEASURED)
    batches = [np.asarray(pixels[rows[0] : rows[-1] + 1]) for rows in batched(iter(range(cells)), BATCH)]
    # The first run of each size takes longer.
    for batch in {len(batch): batch for batch in batches}.values():
        model.predict(batch, maps=False)
    meter = meter or EnergyMeter(gpus=dict)
    meter.spent()
    start = time.perf_counter()
    for batch in batches:
        model.predict(batch, maps=False)
    seconds = (time.perf_counter() - start) * 1000 / cells
    joules = meter.spent().get(PROCESSOR)
    energy_wh = None if joules is None else joules / 3600 * 1000 / cells
    cost = price(seconds, energy_wh, settings)
    return RunningCost(
        cells=cells, threads=threads, processor=_processor(), seconds=seconds, energy_wh=energy_wh, cost=cost
    )


def price(seconds: float, energy_wh: float | None, settings: PipelineSettings) -> float | None:
    """Return what time and energy cost; None without prices, and where one is for energy that is not known."""
    per_hour, per_kwh = settings.price_per_hour, settings.price_per_kwh
    if per_hour is None and per_kwh is None:
        return None
    if per_kwh is not None and energy_wh is None:
        return None
    return (per_hour or 0.0) * seconds / 3600 + (per_kwh or 0.0) * (energy_wh or 0.0) / 1000


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
