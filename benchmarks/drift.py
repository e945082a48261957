"""How often drift is called where there is none, and how often it is found where there is some.

Run with `make bench-drift` after `make repro` on the default data; about five minutes. The detector is the one that
watches in production: the bundle's own reference. New cells are drawn by `pipelines.simulate` with the same lamp, gain
and focus as the test groups of that reference (cells of the same run that nobody has seen), and then changed. It
writes `docs/drift.md` and `reports/bench/drift.json`.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.report import Figure, publish
from monitoring.drift import ALPHA, Detector
from pipelines import simulate
from pipelines.core import bundle, features, images, params
from pipelines.core.bundle import Bundle
from pipelines.core.images import Pixels
from pipelines.core.outliers import Outliers

SEED = 0
TASK = "binary"
"""It knows two media of the four, so that the others are new to it."""
SIZES = (50, 100, 200, 500)
WINDOWS = 200
EACH = 400
"""Cells that are drawn of each group."""
NEW_RUN = 90

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


def draw(settings: params.Simulate, keys: list[tuple[str, int, int]], folder: Path) -> dict[str, list[Pixels]]:
    """Return group → crops of cells that no model has seen, taken as those of its group were."""
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


def describe(model: Bundle, cells: list[Pixels], group: str, change: Change | None = None) -> pd.DataFrame:
    """Return the rows that the service would record of `cells`, changed by `change`."""
    rng, depth = np.random.default_rng(SEED), model.spec.bit_depths[0]
    if change is not None:
        changed = [np.rint(change(each, rng)) for each in cells]
        cells = [np.clip(each, 0, 2**depth - 1).astype(np.uint16) for each in changed]
    figures = np.concatenate([features.acquisition(each[None], depth) for each in cells])
    placed = np.stack([images.center(each, model.spec.canvas, group) for each in cells])
    table = pd.DataFrame(figures, columns=list(features.ACQUISITION)).assign(label="", group=group)
    table = table.assign(height=[each.shape[0] for each in cells], width=[each.shape[1] for each in cells])
    outliers = Outliers.load(Path("artifacts") / TASK / "bundle" / bundle.OUTLIERS)
    return bundle.describe_reference(table, [model.predict(placed)], model.spec, outliers)


def rates(detector: Detector, pool: pd.DataFrame, *, grouped: bool = False) -> list[float | None]:
    """Return the share of windows of `pool` that raise drift on input, for each of SIZES; None: too few cells."""
    rng, found = np.random.default_rng(SEED), list[float | None]()
    groups = list(pool.groupby("group").indices.values()) if grouped else [np.arange(len(pool))]
    for size in SIZES:
        if min(map(len, groups)) < size:
            found.append(None)
            continue
        alarms = [
            bool(detector.judge(pool.iloc[rng.choice(groups[i % len(groups)], size, replace=False)]).input_drift)
            for i in range(WINDOWS)
        ]
        found.append(float(np.mean(alarms)))
    return found


def table(rows: dict[str, list[float | None]]) -> str:
    """Return rows as Markdown."""
    head = ["Windows of", *(f"{size} cells" for size in SIZES)]
    lines = [head, ["---"] * len(head)]
    lines += [[name, *("" if each is None else f"{each:.1%}" for each in shares)] for name, shares in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure, print and write the tables."""
    place, loaded = Path("artifacts") / TASK / "bundle", params.load(Path("params.yaml"))
    assert place.exists(), "no bundle here; run `make repro` first"
    model = bundle.load(place, 2)
    assert model.spec.simulated, "these tables draw cells like those of the default data; this model knows others"
    reference = pd.read_parquet(place / bundle.REFERENCE)
    detector = Detector(reference)
    settings = loaded.simulate.model_copy(update={"marker_channels": 0})
    keys = [
        (medium, int(day), int(run)) for medium, day, run in (name.split("_") for name in reference["group"].unique())
    ]
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        known = draw(settings, keys, Path(name))
        runs = sorted({(medium, day, NEW_RUN + i) for medium, day, _ in keys for i in range(5)})
        others = draw(settings, runs, Path(name))
        new = draw(settings, [(medium, day, run) for medium in ("n", "nt3") for _, day, run in keys[:2]], Path(name))

    def every(cells: dict[str, list[Pixels]], change: Change | None = None) -> pd.DataFrame:
        return pd.concat([describe(model, each, name, change) for name, each in cells.items()], ignore_index=True)

    like = every(known)
    quiet = {
        "groups that the model was tested on, mixed": rates(detector, like),
        "one of these groups": rates(detector, like, grouped=True),
        "one run that it has never seen": rates(detector, every(others), grouped=True),
    }
    power = {name: rates(detector, every(known, change)) for name, change in CHANGES.items()}
    power["a new medium, all"] = rates(detector, every(new))
    half = pd.concat(
        [every(new).sample(len(like) // 2, random_state=SEED), like.sample(len(like) // 2, random_state=SEED)]
    )
    power["a new medium, half"] = rates(detector, half)
    mixed = like[like["group"].str.startswith("a_")]
    power["a mixture of one class (told as `classes`, no fault)"] = rates(detector, mixed)

    highest = ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / WINDOWS))
    first = list(quiet)[:2]
    figures = [
        Figure(f"false alarms, {name}, {size} cells", share, f"<= {highest:.4f}" if name in first else None)
        for name, shares in quiet.items()
        for size, share in zip(SIZES, shares, strict=True)
        if share is not None
    ]
    figures += [
        Figure(f"found, {name}, {size} cells", share)
        for name, shares in power.items()
        for size, share in zip(SIZES, shares, strict=True)
        if share is not None
    ]
    publish("drift", figures, ["scipy", "numpy"], SEED)
    Path("docs/drift.md").write_text(
        f"""# How often drift is called

Written by `make bench-drift` (seed {SEED}) after `make repro` on the default, simulated data: {WINDOWS} windows each,
{TASK} model, {len(reference)} cells of {len(keys)} acquisition groups in its reference.
Another model has other figures.

## False alarms

The stated level is {ALPHA:.0%} of windows of like cells.

{table(quiet)}

A run whose lamp no test group had is not like what the model was tested on: the last line is what a new day's first
sample will raise. Add cells of more runs to the data to make it rarer.

## Power

{table(power)}

The thresholds allow for what the acquisition groups of the reference differ by: with few groups they are wide, and a
change that is smaller than that, or a medium that looks to the model like one that it knows, is not found. More runs of
each class in the data make them narrower.
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
