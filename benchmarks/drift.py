"""How often the drift detector raises an alarm without drift, and how often it finds drift.

Run with `fatescope bench drift` after `fatescope repro` on the default data; about half a minute. The detector is the
one that watches in production, with the bundle's own reference. New cells are drawn by `pipelines.commands.simulate`
with the lamp, gain and focus of the test groups of that reference (unseen cells of the same runs), and then changed. It
writes `docs/explanation/drift.md` and `reports/bench/drift.json`.
"""

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.report import Figure, publish
from fatescope import command, config
from fatescope.data import features, images
from fatescope.data.images import Pixels
from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from monitoring.drift import Detector, Report
from monitoring.thresholds import ALPHA
from pipelines.commands import simulate

SEED = 0
TASK = "binary"
"""It knows two media of the four, so that the others are new to it."""
NEW = ("n", "nt3")
LIKE = "groups that the model was tested on, mixed"
LIKE_GROUP = "one of these groups"
SIZES = (50, 100, 200, 500)
WINDOWS = 200
EACH = 400
"""Cells that are drawn of each group."""
NEW_RUN = 90
"""The first number of runs that are not in the data."""
OTHERS = 5
"""Such runs of each medium and day."""

CellDataset = dict[str, list[Pixels]]
"""Group → native crops."""
Shares = list[float | None]
"""Of windows, for each of SIZES; None where there are too few cells."""
Change = Callable[[Pixels, np.random.Generator], npt.NDArray[np.floating]]


def lamp(factor: float) -> Change:
    """Return what a lamp of another level makes of a cell."""
    return lambda pixels, _: pixels * factor


def gain(factor: float) -> Change:
    """Return what another contrast makes of a cell: its deviation from the background grows."""
    return lambda pixels, _: images.background(pixels[None])[0] * (1 - factor) + pixels * factor


def noise(counts: float) -> Change:
    """Return a cell with noise of a standard deviation of `counts` added to that of the camera."""
    return lambda pixels, rng: pixels + rng.normal(0, counts, pixels.shape)


def blur(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return the mean over 3x3 px: out of focus by about a pixel."""
    wide = np.pad(pixels.astype(float), 1, mode="edge")
    height, width = pixels.shape
    return np.sum([wide[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0) / 9


def crop(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return a crop that is 6 px smaller at each side."""
    return pixels[6:-6, 6:-6].astype(float)


CHANGES: dict[str, Change] = {
    "lamp, +3 %": lamp(1.03),
    "lamp, +10 %": lamp(1.1),
    "lamp, +30 %": lamp(1.3),
    "gain, +20 %": gain(1.2),
    "gain, +50 %": gain(1.5),
    "focus, 3x3 px mean": blur,
    "noise, 2 counts": noise(2.0),
    "noise, 5 counts": noise(5.0),
    "crop, 6 px less a side": crop,
}


def draw(settings: config.Simulate, keys: list[tuple[str, int, int]], folder: Path) -> CellDataset:
    """Return cells that no model has seen, taken as those of its group were."""
    found = {}
    for medium, day, run in keys:
        group = simulate.Group(medium, day, run, EACH)
        simulate.draw_group(settings, group, folder)
        # Cells with the first numbers may be those of the data.
        used = settings.cells // len(simulate.groups(settings)) + 1 if run <= settings.runs else 0
        paths = (folder / group.sample).glob("*_Ch1.ome.tif")
        chosen = [path for path in paths if int(re.findall(r"_(\d+)_Ch1", path.name)[0]) > used]
        decoded = [images.decode(path.read_bytes(), path.name, 10**6)[0] for path in sorted(chosen)]
        found[f"{medium}_{day}_{run}"] = [pixels for _, pixels in decoded]
    return found


def describe(model: Bundle, known: CellDataset, change: Change | None = None) -> pd.DataFrame:
    """Return the rows that the service would record of cells, changed by `change`."""
    rng, depth = np.random.default_rng(SEED), model.spec.bit_depths[0]
    tables = []
    for group, cells in known.items():
        crops = cells
        if change is not None:
            crops = [np.clip(np.rint(change(each, rng)), 0, 2**depth - 1).astype(np.uint16) for each in cells]
        figures = np.concatenate([features.acquisition(each[None], depth) for each in crops])
        manifest = pd.DataFrame(figures, columns=list(features.ACQUISITION)).assign(label="", group=group)
        manifest = manifest.assign(height=[each.shape[0] for each in crops], width=[each.shape[1] for each in crops])
        placed = np.stack([images.center(each, model.spec.canvas, group) for each in crops])
        tables.append(bundle.build_reference(manifest, [model.predict(placed)], model.spec, model.outliers))
    return pd.concat(tables, ignore_index=True)


def on_input(report: Report) -> bool:
    """Tell whether the report raises the alert."""
    return bool(report.input_drift)


def on_mixture(report: Report) -> bool:
    """Tell whether the report says that the mixture of classes is another."""
    return any(each.statistic == "classes" and each.drifted for each in report.findings)


def rates(
    detector: Detector, pool: pd.DataFrame, *, grouped: bool = False, told: Callable[[Report], bool] = on_input
) -> Shares:
    """Return the share of windows of `pool` of which `told` is true; `grouped`: each of one group."""
    rng, found = np.random.default_rng(SEED), list[float | None]()
    groups = list(pool.groupby("group").indices.values()) if grouped else [np.arange(len(pool))]
    for size in SIZES:
        if min(map(len, groups)) < size:
            found.append(None)
            continue
        drawn = (rng.choice(groups[i % len(groups)], size, replace=False) for i in range(WINDOWS))
        found.append(float(np.mean([told(detector.evaluate(pool.iloc[rows])) for rows in drawn])))
    return found


def alarms(model: Bundle, detector: Detector, known: CellDataset, others: CellDataset) -> dict[str, Shares]:
    """Return how often like cells raise the alert."""
    like = describe(model, known)
    return {
        LIKE: rates(detector, like),
        LIKE_GROUP: rates(detector, like, grouped=True),
        "one run that it has never seen": rates(detector, describe(model, others), grouped=True),
    }


def power(model: Bundle, detector: Detector, known: CellDataset, new: CellDataset) -> dict[str, Shares]:
    """Return how often a change is found."""
    like, strange = describe(model, known), describe(model, new)
    count = min(len(like), len(strange)) // 2
    half = pd.concat([table.sample(count, random_state=SEED) for table in (like, strange)])
    medium = like["group"].str.split("_").str[0]
    return {
        **{name: rates(detector, describe(model, known, change)) for name, change in CHANGES.items()},
        "a new medium, all": rates(detector, strange),
        "a new medium, half": rates(detector, half),
        "one class alone: reported as another mixture, which is no fault": rates(
            detector, like[medium == medium.iloc[0]], told=on_mixture
        ),
    }


def listed(rows: dict[str, Shares], bars: dict[str, str]) -> list[Figure]:
    """Return rows as figures."""
    return [
        Figure(f"{name}, {size} cells", share, bars.get(name))
        for name, shares in rows.items()
        for size, share in zip(SIZES, shares, strict=True)
        if share is not None
    ]


def table(rows: dict[str, Shares]) -> str:
    """Return rows as Markdown."""
    head = ["Windows of", *(f"{size} cells" for size in SIZES)]
    lines = [head, ["---"] * len(head)]
    lines += [[name, *("" if each is None else f"{each:.1%}" for each in shares)] for name, shares in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure, print and write the tables."""
    place, settings = Path("artifacts") / TASK / "bundle", config.load(Path("params.yaml")).simulate
    try:
        model = bundle.load(place, 2)
    except BundleError as error:
        sys.exit(f"{error}\nrun `make repro` first")
    if not model.spec.simulated:
        sys.exit(f"{place}: a model of real cells; this draws cells like those of the default data")
    reference = pd.read_parquet(place / bundle.REFERENCE)
    settings = settings.model_copy(update={"marker_channels": 0})
    # Those that the model was tested on.
    groups = [name.split("_") for name in reference.loc[~reference["seen"], "group"].unique()]
    keys = [(medium, int(day), int(run)) for medium, day, run in groups]
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        known = draw(settings, keys, Path(name))
        unseen = [(medium, day, NEW_RUN + i) for medium, day, _ in keys for i in range(OTHERS)]
        others = draw(settings, unseen, Path(name))
        # With lamps of their own, as another culture's runs have.
        new = draw(settings, [(medium, day, run) for medium in NEW for _, day, run in keys[:2]], Path(name))
    detector = Detector(reference)
    quiet, found = alarms(model, detector, known, others), power(model, detector, known, new)
    # 200 windows at the stated level: three standard errors.
    bar = f"<= {ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / WINDOWS)):.4f}"
    publish("drift", listed(quiet, {LIKE: bar, LIKE_GROUP: bar}) + listed(found, {}), ["scipy", "numpy"], SEED)
    text = TEXT.format(
        seed=SEED, windows=WINDOWS, task=TASK, cells=len(reference), tested=len(keys),
        groups=reference["group"].nunique(), alpha=ALPHA,
        quiet=table(quiet), power=table(found),
    )  # fmt: skip
    Path("docs/explanation/drift.md").write_text(text, encoding="utf-8")


TEXT = """# How often drift is found

Written by `fatescope bench drift` (seed {seed}) after `fatescope repro` on the default, simulated data: {windows}
windows each, {task} model, {cells} cells of {groups} acquisition groups in its reference, of which it was tested on
{tested}. Another model has other figures.

## False alarms

The stated level is {alpha:.0%} of windows of like cells.

{quiet}

A run that is in no data has a lamp of its own: the last row says how often the first sample of a new run raises an
alarm. Add cells of more runs to the data to make it rarer.

## Power

{power}

The thresholds allow for how much the acquisition groups of the reference differ: with few groups they are wide, and a
smaller change, or a medium that looks to the model like one that it knows, is not found. More runs of each class in the
data make them narrower. `novelty`, which finds the new media, was developed with these two in view; it was not tried on
others, or on real ones.
"""


if __name__ == "__main__":
    command.run(main)
