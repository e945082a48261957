"""Draw the cells of acquisition groups, each imaged by an instrument in the state of its run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fatescope.config import Simulate
from fatescope.errors import ParamsError
from pipelines.simulation.cell import Beside, DrawnCell, Identity, draw_cell
from pipelines.simulation.junk import Junk
from pipelines.simulation.optics import Acquisition
from pipelines.simulation.phenotypes import MEDIA

SCATTER_STREAM, JUNK_STREAM = 1, 2
"""The streams of random numbers of each cell for the darkfield, and for junk."""
FRAME_STREAM = 3
"""The stream of random numbers of each cell for what stays in all of its images; those of an image follow it."""
FRAME_HOURS = 6
"""Between two images of a cell."""
LAMPS = (620.0, 880.0)
"""Range of the lamp level, counts; with a shortcut the media lie along it in the order of `simulate.media`."""
TOLERANCE, DIGITS = 1e-9, 9
"""What rounding may take from a count of cells, and digits at which fractions of a cell are equal."""
FOCUS_REACH, NOISE_REACH, GAIN_REACH = 0.8, 3.0, 0.5
"""What lies between the first and the last medium at full strength: defocus, read noise (counts), share of the gain."""


@dataclass(frozen=True)
class Group:
    """The cells of one medium, day and run, which one process draws at a time."""

    medium: str
    day: int
    run: int
    cells: int

    @property
    def sample(self) -> str:
        """The name of its folder."""
        return f"{self.medium}_{self.day}d{self.run}"


def groups(params: Simulate) -> list[Group]:
    """Return the acquisition groups, over which `params.cells` are spread by the weights of the media.

    Groups of one medium are equal to within one cell. Raises ParamsError for a medium that cannot be drawn.
    """
    if unknown := sorted(set(params.media) - set(MEDIA)):
        raise ParamsError(f"simulate.media: {unknown} cannot be drawn; choose from {list(MEDIA)}")
    # Media alternate fastest, so that those one cell larger are spread over the media too.
    keys = [(m, d, r) for d in dict.fromkeys(params.days) for r in range(1, params.runs + 1) for m in params.media]
    total = sum(params.media.values()) * len(keys) / len(params.media)
    exact = [params.cells * params.media[medium] / total for medium, _, _ in keys]
    counts = [int(count + TOLERANCE) for count in exact]
    # The cells that are left go to the groups that are cut by most (largest remainder), of equal ones to the first.
    by_rest = sorted(range(len(keys)), key=lambda i: round(counts[i] - exact[i], DIGITS))
    for i in by_rest[: params.cells - sum(counts)]:
        counts[i] += 1
    return [Group(*key, count) for key, count in zip(keys, counts, strict=True) if count]


def draw_cells(
    params: Simulate, group: Group, change: Callable[[Acquisition], Acquisition] = lambda run: run
) -> Iterator[DrawnCell]:
    """Yield the cells of one group in the order of their numbers, which begin with 1; of each, its images in time.

    `change` returns the instrument that takes them in place of that of their run; the cells are the same.
    """
    place = _place(params, group.medium)
    settings = change(plant(draw_acquisition(_rng(params, group, 0), place, params.shortcut), place, params))
    if params.frames > 1:
        yield from _follow_cells(params, group, settings)
        return
    for number in range(1, group.cells + 1):
        rng = _rng(params, group, number)
        size = _crop(rng, params.height), _crop(rng, params.width)
        scatter = _rng(params, group, number, SCATTER_STREAM) if params.darkfield else None
        junk = Junk.draw(_rng(params, group, number, JUNK_STREAM), params.junk)
        beside = Beside(scatter, junk)
        yield draw_cell(rng, MEDIA[group.medium], group.day, settings, size, params.marker_channels, beside)


def _follow_cells(params: Simulate, group: Group, settings: Acquisition) -> Iterator[DrawnCell]:
    """Yield the images of each cell in time, its class growing clearer, what it is otherwise staying the same."""
    for number in range(1, group.cells + 1):
        identity = Identity.draw(_rng(params, group, number, FRAME_STREAM))
        for frame in range(params.frames):
            stream = FRAME_STREAM, frame
            rng = _rng(params, group, number, *stream)
            size = _crop(rng, params.height), _crop(rng, params.width)
            scatter = _rng(params, group, number, *stream, SCATTER_STREAM) if params.darkfield else None
            junk = Junk.draw(_rng(params, group, number, *stream, JUNK_STREAM), params.junk)
            day = group.day + frame * FRAME_HOURS / 24
            beside = Beside(scatter, junk, identity)
            yield draw_cell(rng, MEDIA[group.medium], day, settings, size, params.marker_channels, beside)


def draw_acquisition(rng: np.random.Generator, place: float, shortcut: float) -> Acquisition:
    """Draw the state of the instrument during one run.

    `shortcut`, 0 to 1, is how strongly lamp level and gain follow the medium, which is at `place`, 0 to 1.
    """
    lamp = (1 - shortcut) * rng.uniform(*LAMPS) + shortcut * (LAMPS[0] + place * (LAMPS[1] - LAMPS[0]))
    return Acquisition(
        lamp=lamp,
        gain=rng.uniform(0.9, 1.1) * (1 + 0.15 * shortcut * (place - 0.5)),
        focus=0.08 * rng.standard_normal(),
        noise=rng.uniform(1.5, 2.5),
        tilt=0.2 * rng.standard_normal(),
        slope=0.004 * rng.standard_normal(),
        laser=float(np.exp(0.12 * rng.standard_normal())),
    )


def plant(run: Acquisition, place: float, params: Simulate) -> Acquisition:
    """Return the state of the instrument with what `params` lets follow the medium, at `place`, beside the lamp."""
    return replace(
        run,
        focus=run.focus + params.focus_shift * FOCUS_REACH * (place - 0.5),
        noise=run.noise + params.noise_shift * NOISE_REACH * place,
        gain=run.gain * (1 + params.gain_shift * GAIN_REACH * (place - 0.5)),
    )


def _place(params: Simulate, medium: str) -> float:
    """Return where a medium is, 0 to 1, in the order of those that are drawn."""
    return list(params.media).index(medium) / max(1, len(params.media) - 1)


def _rng(params: Simulate, group: Group, number: int, *stream: int) -> np.random.Generator:
    """Return the random generator of one cell, or of the run for number 0, whatever else was drawn before."""
    key = (list(MEDIA).index(group.medium), group.day, group.run, number, *stream)
    # Seed sequences refuse negative seeds.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(params.seed % 2**64, spawn_key=key)))


def _crop(rng: np.random.Generator, mean: int) -> int:
    """Draw the length of a side of the crop, px, within a quarter of the mean and independent of the cell."""
    return round(float(np.clip(rng.normal(mean, 0.1 * mean), 0.8 * mean, 1.25 * mean)))
