"""What the file of a cell says of its acquisition, of what may be compared between runs, and a table of that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fatescope.data.acquisition_facts import BACKGROUND, PREFIX
from fatescope.data.formats.facts import ExportedFacts
from fatescope.data.native.acquisition import MAX_CHANNELS, Acquisition
from fatescope.data.native.objects import ObjectFacts

Column = list[float | None] | list[str | None]


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What the file of a cell says of its acquisition; nothing where the file does not say."""

    instrument: str = ""
    software: str = ""
    magnification: float | None = None
    brightfield_power_w: float | None = None
    flow_speed: float | None = None
    """mm/s"""
    channel: int = 0
    """The brightfield channel."""
    channels: tuple[int, ...] = ()
    background_mean: tuple[float, ...] = ()
    """Of each of the channels, counts."""

    @classmethod
    def of_object(cls, acquisition: Acquisition, channels: Sequence[int], facts: ObjectFacts) -> "CellFacts":
        """Return those of an object of a native file, of which a model gets these `channels`."""
        channel = brightfield_channel(acquisition, channels)
        return cls(
            acquisition.instrument,
            acquisition.software,
            acquisition.magnification,
            acquisition.brightfield.get(channel),
            facts.flow_speed,
            channel,
            acquisition.channels,
            facts.background_mean[:MAX_CHANNELS],
        )

    @classmethod
    def of_export(cls, facts: ExportedFacts) -> "CellFacts":
        """Return those of an image that IDEAS exported."""
        return cls(flow_speed=facts.flow_speed)

    def background(self, channel: int) -> float | None:
        """Return the mean background of a channel, counts."""
        if channel not in self.channels:
            return None
        place = self.channels.index(channel)
        return _finite(self.background_mean[place]) if place < len(self.background_mean) else None


def brightfield_channel(acquisition: Acquisition, channels: Sequence[int]) -> int:
    """Return by which of the `channels` an object is described: the first one that a brightfield lamp lit, if any."""
    return next((channel for channel in channels if channel in acquisition.brightfield), channels[0])


def tabulate(cells: Sequence[CellFacts | None]) -> dict[str, Column]:
    """Return the columns of the facts of `cells`, None where unknown, without columns in which nothing is known."""
    if not any(cells):
        return {}
    rows = [cell or _NOTHING for cell in cells]
    columns: dict[str, Column] = {
        "instrument": [cell.instrument or None for cell in rows],
        "software": [cell.software or None for cell in rows],
        "magnification": [_finite(cell.magnification) for cell in rows],
        "brightfield_power_w": [_finite(cell.brightfield_power_w) for cell in rows],
        "flow_speed": [_finite(cell.flow_speed) for cell in rows],
        BACKGROUND: [cell.background(cell.channel) for cell in rows],
    }
    for channel in sorted({channel for used in {cell.channels for cell in rows} for channel in used}):
        columns[f"{BACKGROUND}_{channel}"] = [cell.background(channel) for cell in rows]
    return {PREFIX + name: column for name, column in columns.items() if any(value is not None for value in column)}


_NOTHING = CellFacts()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
