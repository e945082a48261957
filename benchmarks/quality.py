"""Whether the gates around good cells find junk, spare good cells, and keep compositions right, on simulated cells.

Run with `fatescope bench quality`; some minutes. For each of five seeds, cells are drawn of which 20 % are junk, gates
are learned from them, and cells of another seed are gated. Cultures are mixed of cells that are no planted junk; then
junk is added until it is 20 % of them. Their composition is estimated by gradient boosting on the features of
`features.CELL`, which is trained with or without junk and gates. The truth is that of the cells alone. It writes
`reports/bench/quality.json` and the tables in `docs/explanation/quality-control.md`.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope import command, config
from fatescope.config import Simulate
from fatescope.data import cell_quality, features, quality_gate
from fatescope.data.crops import center
from fatescope.data.quality_gate import REASONS, QualityGate
from fatescope.inference import composition
from pipelines.evaluation.confounding import MODELS
from pipelines.simulation.acquisition_groups import draw_cells, groups
from pipelines.simulation.optics import BIT_DEPTH

SEED = 0
SEEDS = 5
CELLS = 3000
"""Of each set, of which there are two a seed: one to learn from, one to gate."""
JUNK = 0.2
CULTURES, CULTURE_CELLS = 300, 300
CLEAN, CLEAN_GATED = "no junk, no gate", "no junk, gated"
SERVED_GATED, TRAINED_GATED = "junk in the culture, gated", "junk in training and culture, gated"
MORE_THAN = {SERVED_GATED: CLEAN, TRAINED_GATED: CLEAN_GATED}
"""Way of treating junk → the same without junk, than which it may not err more."""
PAGE = Path("docs/explanation/quality-control.md")

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Drawn:
    """Simulated cells, what they are, and their features."""

    labels: Texts
    groups: Texts
    kinds: Texts
    planted: Flags
    quality: Floats
    """(N, len(QUALITY))"""
    appearance: Floats
    """(N, len(CELL))"""


def draw(settings: Simulate, canvas: tuple[int, int]) -> Drawn:
    """Draw the cells of `settings` without writing them."""
    found = [(group, drawn) for group in groups(settings) for drawn in draw_cells(settings, group)]
    crops = [drawn.channels[0] for _, drawn in found]
    return Drawn(
        labels=np.array([group.medium for group, _ in found]),
        groups=np.array([group.sample for group, _ in found]),
        kinds=np.array([drawn.kind for _, drawn in found]),
        planted=np.array([drawn.planted for _, drawn in found]),
        quality=cell_quality.measure(crops, [BIT_DEPTH] * len(crops)),
        appearance=features.cell(np.stack([center(crop, canvas, "") for crop in crops])),
    )


def count(drawn: Drawn, outside: Flags) -> dict[str, tuple[int, int]]:
    """Return row of the table → how many cells there are of it, and how many of them are `outside`."""
    natural = ~drawn.planted & (drawn.kinds != "cell")
    rows = {
        **{f"planted: {kind}": drawn.planted & (drawn.kinds == kind) for kind in REASONS},
        "planted: all": drawn.planted,
        **{f"in any case: {kind}": natural & (drawn.kinds == kind) for kind in ("doublet", "focus")},
        "good cells": drawn.kinds == "cell",
    }
    return {name: (int(chosen.sum()), int(outside[chosen].sum())) for name, chosen in rows.items()}


@dataclass(frozen=True)
class Culture:
    """The rows of the cells in a culture, and of the junk among them."""

    cells: npt.NDArray[np.int64]
    junk: npt.NDArray[np.int64]


def mix(drawn: Drawn, cultures: int, rng: np.random.Generator) -> list[Culture]:
    """Draw cultures of cells that are no planted junk, in random shares of the classes, and junk beside them."""
    classes = np.unique(drawn.labels)
    of_class = [np.flatnonzero((drawn.labels == name) & ~drawn.planted) for name in classes]
    junk, added = np.flatnonzero(drawn.planted), round(CULTURE_CELLS * JUNK / (1 - JUNK))
    mixed = []
    for _ in range(cultures):
        counts = rng.multinomial(CULTURE_CELLS, rng.dirichlet(np.ones(len(classes))))
        cells = [rng.choice(of_class[k], count) for k, count in enumerate(counts)]
        mixed.append(Culture(np.concatenate(cells), rng.choice(junk, added)))
    return mixed


def compose(train: Drawn, kept: Flags, drawn: Drawn, rows: list[npt.NDArray[np.int64]], truth: Floats) -> Floats:
    """Return the mean absolute errors (M,) of the shares of M cultures, of which a model sees these `rows` of `drawn`.

    It is trained on the cells `kept` of `train`; `truth` (M, K) are the shares of the classes in sorted order.
    """
    model = MODELS["boosting"](SEED).fit(train.appearance[kept], train.labels[kept])  # type: ignore[attr-defined]  # scikit-learn has no types
    probabilities = model.predict_proba(drawn.appearance)
    prior = np.unique(train.labels[kept], return_counts=True)[1] / kept.sum()
    error = np.zeros((len(prior), len(prior)))
    shares = [composition.estimate(probabilities[seen], prior, error).shares for seen in rows]
    errors: Floats = np.abs(np.array(shares) - truth).mean(1)
    return errors


@dataclass(frozen=True)
class Result:
    """What one seed gave."""

    counts: dict[str, tuple[int, int]]
    errors: dict[str, Floats]
    """Way of treating junk → (M,) errors of the same cultures."""


def measure(settings: Simulate, canvas: tuple[int, int], loss: float, cultures: int = CULTURES) -> Result:
    """Learn gates from cells of which `settings.junk` is junk, and gate the cells of another seed with them."""
    train = draw(settings, canvas)
    drawn = draw(settings.model_copy(update={"seed": settings.seed + 1000}), canvas)
    gate = quality_gate.learn(train.quality, train.groups, loss)
    outside, train_outside = is_outside(gate, drawn), is_outside(gate, train)
    mixed = mix(drawn, cultures, np.random.default_rng(settings.seed))
    classes = np.unique(drawn.labels)
    truth = np.array([[(drawn.labels[culture.cells] == name).mean() for name in classes] for culture in mixed])
    cells = [culture.cells for culture in mixed]
    all_of_it = [np.concatenate([culture.cells, culture.junk]) for culture in mixed]
    gated = [rows[~outside[rows]] for rows in all_of_it]
    # What the same pipeline would do of the same cells if nobody had added junk.
    plain = quality_gate.learn(train.quality[~train.planted], train.groups[~train.planted], loss)
    plain_kept, plain_outside = ~train.planted & ~is_outside(plain, train), is_outside(plain, drawn)
    plain_gated = [rows[~plain_outside[rows]] for rows in cells]
    every = np.ones(len(train.labels), bool)
    ways = {
        CLEAN: (~train.planted, cells),
        CLEAN_GATED: (plain_kept, plain_gated),
        SERVED_GATED: (~train.planted, gated),
        "junk in the culture, no gate": (~train.planted, all_of_it),
        TRAINED_GATED: (~train_outside, gated),
        "junk in training and culture, no gate": (every, all_of_it),
    }
    errors = {name: compose(train, kept, drawn, rows, truth) for name, (kept, rows) in ways.items()}
    return Result(count(drawn, outside), errors)


def is_outside(gate: QualityGate, cells: Drawn) -> Flags:
    """Return which (N,) cells are outside the gate, for whatever reason."""
    return np.asarray(gate.outside(cells.quality).any(1))


def speed(settings: Simulate) -> float:
    """Return the milliseconds that measuring one cell of a batch takes on one core."""
    group = max(groups(settings), key=lambda group: group.cells)
    crops = [drawn.channels[0] for drawn in draw_cells(settings, group)]
    crops = (crops * (512 // len(crops) + 1))[:512]
    start = time.process_time()
    cell_quality.measure(crops, [BIT_DEPTH] * len(crops))
    return 1000 * (time.process_time() - start) / len(crops)


def tabulate(results: list[Result]) -> dict[str, list[Row]]:
    """Return section → rows of its table, over all seeds."""
    bars = {"planted: all": ">= 0.95", "good cells": "<= 0.02"}
    junk = []
    for name in results[0].counts:
        shares = [outside / total for total, outside in (result.counts[name] for result in results)]
        total, outside = np.sum([result.counts[name] for result in results], axis=0)
        values = {"outside": float(outside / total), "lowest": min(shares), "highest": max(shares)}
        junk.append(Row(f"{name} ({total:,})", values, {"outside": bars[name]} if name in bars else {}))
    cultures = []
    for name in results[0].errors:
        values = {"error of a share": mean_error(results, name)}
        bars = {}
        if name in MORE_THAN:
            values["more than without junk"] = values["error of a share"] - mean_error(results, MORE_THAN[name])
            bars = {"more than without junk": "<= 0.0"}
        forms = {"error of a share": "{:.4f}", "more than without junk": "{:+.4f}"}
        cultures.append(Row(name, values, bars, forms))
    return {"junk": junk, "composition": cultures}


def mean_error(results: list[Result], name: str) -> float:
    """Return the mean error of a share under one way of treating junk."""
    return float(np.mean(np.concatenate([result.errors[name] for result in results])))


def main() -> None:
    """Simulate, print and write the tables."""
    if not PAGE.exists():
        sys.exit(f"{PAGE}: not in this folder; run from the folder of the project")
    settings = config.load(Path("params.yaml"))
    base = settings.simulate.model_copy(update={"cells": CELLS, "marker_channels": 0, "darkfield": False, "junk": JUNK})
    seeds = tqdm(range(1, SEEDS + 1), desc="quality", unit="seed")
    results = [
        measure(base.model_copy(update={"seed": seed}), settings.ingest.canvas, settings.quality.loss) for seed in seeds
    ]
    rows = tabulate(results)
    rows["speed"] = [Row("one cell, one core", {"ms": speed(base)}, {}, {"ms": "{:.2f}"})]
    publish("quality", [f for section, found in rows.items() for f in to_figures(section, found)], ["numpy"], SEED)
    fill(PAGE, {f"quality:{section}": table(found) for section, found in rows.items()})


if __name__ == "__main__":
    command.run(main)
