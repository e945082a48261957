"""Speed of training and inference on a GPU, beside what bounds both and beside plain recipes, and the paper's size.

Run with `fatescope bench gpu` or `python -m benchmarks.gpu`, some ten minutes on one GPU; without one it ends with exit
code 3. It needs Python, PyTorch, ONNX Runtime, scikit-learn and the core's dependencies: no network, no MLflow, no
Optuna and no BentoML. What else is missing is told, and its figures are left out: torchvision for all backbones but
`compact`, what the service is made of (pydantic-settings, starlette) for engine and `score`.
- A fit (ResNet18 at 60x60, batch 128) is beside the same step on one constant batch on the card, in eager mode or as a
  CUDA graph, whichever is faster, and beside PNGs, a `DataLoader` and float32.
- The engine of the service is beside the same network as a CUDA graph, from page-locked memory and back, and TensorRT
  where ONNX Runtime has it: on the bundle of the tests, and on the one that `--bundle` names.
- `score` is beside the slower of decoding and engine, each alone.
- The table has 90,000 cells, seven backbones and seeded settings with the batch sizes of a GPU; the second epoch of
  each is timed. Cells are drawn and repeated under new noise.

`--small` runs all of it tiny on a CPU, to check the program; then every figure is marked as no measurement, none has a
bar, and they are in `reports/bench/gpu_small.json`.
"""

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import gpu_cells, gpu_inference, gpu_training
from benchmarks.report import MARK, Figure, publish, unmeasured
from benchmarks.tables import Row, table, to_figures
from fatescope import config
from fatescope.cli import machine
from fatescope.command import run
from fatescope.config import Train
from pipelines.training.device import select_device

ROOT = Path(__file__).parent.parent
SEED = 0
BUNDLE = ROOT / "tests" / "data" / "bundles" / "multiclass"
NO_GPU = 3
"""The exit code without a GPU."""
PARTS = ("fit", "engine", "score", "table")
PACKAGES = ("torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "tensorrt", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    cells: int
    distinct: int
    fitted: int
    """Cells of the fit that is timed."""
    epochs: int
    batch_size: int
    steps: int
    """On the constant batch."""
    loaders: int
    files: int
    """That `score` classifies."""
    seconds: float
    """For which an engine runs."""
    settings: int
    batch_sizes: tuple[int, ...]
    backbone: str
    """Of the fit that is timed, where it can be built."""


ON_GPU = Scale(
    90_000, 9_000, 20_000, 4, 128, 200, gpu_training.LOADERS, 20_000, 3.0, 14, (128, 256, 512, 1024), "resnet18"
)
TINY = Scale(80, 40, 40, 2, 8, 2, 0, 20, 0.05, 1, (16,), "compact")


def measure(scale: Scale, parts: list[str], bundles: list[Path], minutes: float, folder: Path) -> Iterator[Figure]:
    """Yield the figures of `parts`; files are written into `folder`."""
    device, train = select_device(), config.load(ROOT / "params.yaml").train
    if device.type == "cpu":
        train = train.model_copy(update={"threads": 1})
    pixels, targets = gpu_cells.draw(scale.distinct, scale.cells, SEED)
    examples = gpu_cells.split(pixels, targets)
    if "fit" in parts:
        few = gpu_cells.split(pixels, targets, scale.fitted)
        yield from gpu_training.measure_fit(
            few, folder / "png", fit_settings(train, scale), device, SEED, steps=scale.steps, loaders=scale.loaders
        )
    rate = None
    for path in bundles if "engine" in parts or "score" in parts else []:
        try:
            figures, measured = gpu_inference.measure_engine(path, device, scale.seconds)
        except ModuleNotFoundError as error:
            print(f"engine and score are left out: {error}")
            break
        rate = rate or measured
        yield from figures
    if "score" in parts and rate is not None:
        paths = gpu_cells.write_tiffs(folder / "tiff", pixels, scale.files)
        try:
            yield from gpu_inference.measure_score(bundles[0], paths, folder / "scored", rate)
        except ModuleNotFoundError as error:
            print(f"score is left out: {error}")
    if "table" in parts:
        drawn = gpu_training.draw_settings(train, scale.settings, SEED, list(scale.batch_sizes))
        rows: list[Row] = gpu_training.measure_settings(examples, drawn, SEED, minutes)
        print(table(rows))
        yield from to_figures(f"{len(examples.train):,} training cells", rows)
        yield gpu_training.extrapolate(rows)


def fit_settings(train: Train, scale: Scale) -> Train:
    """Return the settings of the fit that is timed."""
    backbone = scale.backbone if scale.backbone in gpu_training.backbones() else "compact"
    changes = {"backbone": backbone, "weights": "none", "input_size": (60, 60), "patience": scale.epochs}
    return train.model_copy(update=changes | {"epochs": scale.epochs, "batch_size": scale.batch_size})


def describe_gpu() -> dict[str, str]:
    """Return the card, its memory and its driver, and the versions of CUDA and cuDNN."""
    properties = torch.cuda.get_device_properties(0)
    drivers = sorted({gpu.driver for gpu in machine.gpus()})
    return {
        "gpu": properties.name,
        "gpu_memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": ", ".join(drivers) or "unknown",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


def installed(packages: tuple[str, ...]) -> list[str]:
    """Return those of the `packages` that are installed."""
    found = []
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        found.append(package)
    return found


def main(
    small: Annotated[bool, typer.Option("--small", help="Check the program on a CPU; nothing is measured.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Another bundle to run the engine on.")] = None,
    parts: Annotated[str, typer.Option(help=f"What to measure, separated by commas: {', '.join(PARTS)}.")] = ",".join(
        PARTS
    ),
    settings: Annotated[int, typer.Option(min=1, help="Settings in the table.")] = ON_GPU.settings,
    minutes: Annotated[float, typer.Option(help="In which fits of the table are begun.")] = 6.0,
) -> None:
    """Measure, print and write the figures."""
    if not small and not torch.cuda.is_available():
        print(
            f"PyTorch {torch.__version__} finds no GPU on {platform.node()}: nothing is measured. `--small` checks the "
            "program on the CPU"
        )
        raise typer.Exit(NO_GPU)
    if unknown := sorted(set(parts.split(",")) - set(PARTS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PARTS)}", param_hint="--parts")
    scale = TINY if small else replace(ON_GPU, settings=settings)
    bundles = [BUNDLE, *([bundle] if bundle else [])]
    accelerator = {} if small else describe_gpu()
    print(accelerator or MARK, flush=True)
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        figures = list(measure(scale, parts.split(","), bundles, minutes, Path(name)))
    if small:
        figures = unmeasured(figures)
    publish("gpu_small" if small else "gpu", figures, installed(PACKAGES), SEED, accelerator)


if __name__ == "__main__":
    run(main)
