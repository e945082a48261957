"""Speed of training beside what bounds it and beside a plain recipe, and whether its memory grows with the cells.

Run with `fatescope bench training`. All on ResNet18 at 60x60, batch 128, two threads, and on cells that
`pipelines.commands.simulate` draws:
- the limit is the same network, optimizer and precision stepping on one constant batch in memory;
- the peer is the recipe of torchvision's own tutorials: `ImageFolder` of 8-bit PNGs, a `DataLoader`, fp32;
- memory is the peak of a process that fits on few and on many cells of a memory map, without the pages of the map
  itself, which the system may drop.
Rates and accuracies are medians of three rounds; in each round all are run one after the other, with a seed of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.fits import constant_rate, fit_rate
from benchmarks.report import Figure, publish
from fatescope import config
from fatescope.command import run
from fatescope.config import Params, Train
from fatescope.data import dataset, splits
from pipelines.commands import simulate
from pipelines.stages import ingest, split
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict

SEED = 0
CELLS = 4000
EPOCHS = 10
REPEATS = 3
FEW, MANY = 4_000, 80_000


def prepare(folder: Path, settings: Params) -> tuple[Examples, npt.NDArray[np.int64], int]:
    """Simulate and ingest cells; return examples without validation cells, the test rows and the number of classes."""
    path = folder / "params.yaml"
    content = json.loads(settings.model_dump_json(by_alias=True))
    content["simulate"]["cells"] = CELLS
    path.write_text(json.dumps(content))
    simulate.simulate(config.load(path).simulate, folder / "data")
    ingest.main(path, folder / "data", folder / "cells")
    split.main(path, folder / "cells", folder / "splits.parquet")
    cells, assigned = dataset.load(folder / "cells"), splits.load(folder / "splits.parquet")
    classes = settings.classes("multiclass")
    targets = np.array([classes.index(x) for x in cells.manifest["label"]], np.int64)
    rows = [assigned.indices("random", name, classes) for name in ("train", "validation", "test")]
    train = np.sort(np.concatenate(rows[:2]))
    return Examples(cells.pixels, targets, train, train[:0]), rows[2], len(classes)


def write_folders(folder: Path, examples: Examples, test: npt.NDArray[np.int64]) -> None:
    """Write the cells as 8-bit PNGs, one folder per class, as `ImageFolder` reads them."""
    white = float(np.quantile(examples.pixels[examples.train[::10]], 0.999))
    for split_name, rows in (("train", examples.train), ("test", test)):
        for row in rows:
            path = folder / split_name / str(examples.targets[row]) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            scaled = np.clip(examples.pixels[row] / white * 255, 0, 255).astype(np.uint8)
            Image.fromarray(scaled).save(path)


def peer(folder: Path, classes: int, settings: Train, seed: int) -> tuple[float, float]:
    """Train as torchvision's tutorials do; return images per second, and balanced accuracy on the test cells."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    to_tensor = [
        transforms.Resize(settings.input_size),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.2] * 3),
    ]
    flips = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
    train = torchvision.datasets.ImageFolder(str(folder / "train"), transforms.Compose(flips + to_tensor))
    test = torchvision.datasets.ImageFolder(str(folder / "test"), transforms.Compose(to_tensor))
    loader = DataLoader(train, settings.batch_size, shuffle=True, drop_last=True)
    model = torchvision.models.resnet18(num_classes=classes)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    total = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=total)
    ends = []
    for _ in range(settings.epochs):
        model.train()
        for images, targets in loader:
            loss = functional.cross_entropy(model(images), targets, label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        ends.append(time.perf_counter())
    rate = len(loader) * settings.batch_size * (len(ends) - 1) / (ends[-1] - ends[0])
    model.eval()
    with torch.inference_mode():
        batches = [(model(images).argmax(1), targets) for images, targets in DataLoader(test, 256)]
    predicted, targets = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return rate, float(balanced_accuracy_score(targets, predicted))


MEMORY = """
import sys, threading, time
from pathlib import Path
import numpy as np
from pipelines.training import trainer
from pipelines.training.examples import Examples
from fatescope import config as params
settings = params.load(Path("params.yaml")).train.model_copy(update={
    "backbone": "compact", "epochs": 2, "batch_size": 128, "threads": 2, "input_size": (60, 60)})
pixels = np.load(sys.argv[1], mmap_mode="r")
targets = np.arange(len(pixels)) % 4
rows = np.arange(len(pixels))
peak = 0.0
def record_peak():
    global peak
    while True:
        # The memory of the process alone, MB, without pages of the memory map.
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = max(peak, *(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")))
        time.sleep(0.02)
threading.Thread(target=record_peak, daemon=True).start()
examples = Examples(pixels, targets, rows[rows % 5 > 0], rows[rows % 5 == 0])
trainer.fit(examples, 4, settings, 0, lambda *_: None)
print(peak)
"""


def memory(folder: Path, count: int) -> float:
    """Return the peak memory in MB of a process that fits two epochs on `count` cells of a memory map."""
    path = folder / f"pixels{count}.npy"
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(count, 60, 80))
    rng = np.random.default_rng(SEED)
    for start in range(0, count, 4000):
        pixels[start : start + 4000] = rng.normal(700, 30, (4000, 60, 80)).astype(np.uint16)
    del pixels
    command = [sys.executable, "-c", MEMORY, str(path)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    path.unlink()
    return float(completed.stdout)


def main() -> None:
    """Measure, print and write the figures."""
    params = config.load(Path("params.yaml"))
    change = {"backbone": "resnet18", "input_size": (60, 60), "batch_size": 128, "epochs": EPOCHS, "threads": 2}
    settings = params.train.model_copy(update=change | {"weights": "none"})
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        examples, test, classes = prepare(folder, params)
        write_folders(folder / "png", examples, test)
        limit, plain, short, ours, theirs = [], [], [], [], []
        for turn in range(REPEATS):
            limit.append(constant_rate(examples, classes, settings, SEED))
            plain.append(constant_rate(examples, classes, settings, SEED, plain=True))
            short.append(fit_rate(examples, classes, settings.model_copy(update={"epochs": 4}), turn)[0])
            rate, fit = fit_rate(examples, classes, settings, turn)
            predicted = predict(fit.network, examples.pixels, test).logits.argmax(1)
            ours.append((rate, float(balanced_accuracy_score(examples.targets[test], predicted))))
            # In a process of its own, without the memory settings of this one.
            with get_context("spawn").Pool(1) as pool:
                theirs.append(pool.apply(peer, (folder / "png", classes, settings, turn)))
            print(f"round {turn}: fit {ours[-1]}, peer {theirs[-1]}", flush=True)
        used = {count: memory(folder, count) for count in (FEW, MANY)}
    shares = [a / b for a, b in zip(short, limit, strict=True)]
    (rate, accuracy), (peer_rate, peer_accuracy) = (np.median(rounds, axis=0).tolist() for rounds in (ours, theirs))
    products = [a / b for a, b in zip(limit, plain, strict=True)]
    gains = [a[0] / b[0] for a, b in zip(ours, theirs, strict=True)]
    publish(
        "training",
        [
            Figure("fit over the same step on one constant batch", median(shares), ">= 0.95"),
            Figure("fit over ImageFolder, DataLoader and fp32", median(gains), ">= 1.8"),
            Figure(
                f"balanced accuracy less that of the peer after {EPOCHS} epochs", accuracy - peer_accuracy, ">= 0.0"
            ),
            Figure("balanced accuracy of fit", accuracy),
            Figure("balanced accuracy of the peer", peer_accuracy),
            Figure("images a second, fit", rate),
            Figure("images a second, constant batch", median(limit)),
            Figure("constant batch over the same with convolutions of PyTorch", median(products)),
            Figure("images a second, ImageFolder, DataLoader and fp32", peer_rate),
            Figure(f"peak of own memory with {MANY:,} over {FEW:,} cells", used[MANY] / used[FEW], "<= 1.1"),
            Figure(f"peak of own memory with {MANY:,} cells, MB", used[MANY]),
        ],
        ["torch", "torchvision", "numpy"],
        SEED,
    )


if __name__ == "__main__":
    run(main)
