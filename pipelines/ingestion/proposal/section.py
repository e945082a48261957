"""The section `dataset` that an export is proposed to be read by, and what the paths then say."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fatescope.config import Dataset
from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import Labels
from pipelines.ingestion.proposal.pixels import spread

_TRIED = 500
"""Paths on which a pattern is tried first."""
MIN_MATCHED = 0.98
"""Share of the images that a pattern which is known already must match."""


@dataclass(frozen=True)
class Draft:
    """How paths are read, before it is known which classes have cells enough for a task."""

    pattern: str
    label: str
    group: list[str]
    classes: dict[str, str]
    """Value of the label → class."""
    source: str
    """Where this comes from, in words."""
    channels: dict[str, ChannelKind] = field(default_factory=dict)
    """The channels that the model sees which come with it, and their kinds, if they are known."""
    markers: list[str] = field(default_factory=list)
    """The marker channels that come with it."""
    tasks: dict[str, list[str]] = field(default_factory=dict)
    """Those that come with it."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    hierarchy: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """The coarse classes of those."""
    track: str | None = None
    """The group that tells cells apart of which there are several images, where it comes with it."""
    time: str | None = None
    """The group that is their time."""
    notes: list[str] = field(default_factory=list)
    """What a person should check."""

    @property
    def channel(self) -> str | None:
        """Return the brightfield channel that comes with it, if it is known."""
        return _brightfield(self.channels)

    def dataset(self, channel: str | None) -> Dataset:
        """Return the section, without tasks."""
        return Dataset.model_validate(
            {
                "pattern": self.pattern,
                "label": self.label,
                "classes": self.classes,
                "group": self.group,
                "ranges": self.ranges,
                "tasks": {},
                "hierarchy": {},
                "track": self.track,
                "time": self.time,
                **self.channel_fields(channel, [], []),
            }
        )

    def channel_fields(self, channel: str | None, known: Sequence[str], markers: Sequence[str]) -> dict[str, object]:
        """Return the fields of the section that say which channels the model sees, and which it never may.

        Of `known` channels, `markers` look like stains; what comes with the draft counts before.
        """
        if channel is None:
            return {"channels": None, "marker_channels": []}
        kept = {name: kind for name, kind in self.channels.items() if name in known and channel in self.channels}
        seen = kept or {channel: BRIGHTFIELD}
        never = [name for name in self.markers or markers if name not in seen]
        return {"channels": seen, "marker_channels": never}


def input_channel(dataset: Dataset) -> str | None:
    """Return the brightfield channel that a section names."""
    return _brightfield(dataset.channels or {})


def _brightfield(channels: Mapping[str, ChannelKind]) -> str | None:
    return next((name for name, kind in channels.items() if kind == BRIGHTFIELD), None)


@dataclass
class Counts:
    """What paths say by a draft."""

    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(class, group) → cells."""
    channels: Counter[str] = field(default_factory=Counter)
    inputs: list[str] = field(default_factory=list, repr=False)
    """Paths of the input channel."""
    values: Counter[str] = field(default_factory=Counter)
    """Value of the label → images of all channels."""
    unmatched: list[str] = field(default_factory=list)

    def by_class(self) -> dict[str, int]:
        """Return class → cells."""
        counts = Counter[str]()
        for (label, _), cells in self.cells.items():
            counts[label] += cells
        return dict(counts.most_common())

    def groups(self) -> dict[str, int]:
        """Return class → groups."""
        groups = defaultdict[str, set[str]](set)
        for label, group in self.cells:
            groups[label].add(group)
        return {label: len(its) for label, its in groups.items()}


def count(dataset: Dataset, paths: Sequence[str], labels: Labels) -> Counts:
    """Return what `paths` of images say."""
    parser, counts = PathParser(dataset, labels), Counts()
    for path in paths:
        parsed = parser.read(path)
        if parsed is None:
            counts.unmatched.append(path)
            continue
        counts.values[parsed.facts[dataset.label]] += 1
        if "channel" in parsed.facts:
            counts.channels[parsed.facts["channel"]] += 1
        place = parser.input_index(parsed)
        if place is not None:
            counts.inputs.append(path)
        if place == 0:
            counts.cells[parsed.label, parsed.group] += 1
    return counts


def count_pages(counts: Counts, dataset: Dataset, labels: Labels, pages: Mapping[str, int]) -> None:
    """Count the cells of stacks, of which `pages` has how many are in a file, in place of one for each file."""
    parser = PathParser(dataset, labels)
    for path, cells in pages.items():
        parsed = parser.read(path)
        if parsed is not None:
            counts.cells[parsed.label, parsed.group] += cells - 1


def share_matched(dataset: Dataset, paths: Sequence[str]) -> float:
    """Return which share of `paths`, of many a few of them, the pattern of a section matches.

    To find that a pattern does not match takes ten times as long as to find that it does.
    """
    parser, chosen = PathParser(dataset), [paths[i] for i in spread(len(paths), _TRIED)] if paths else []
    return sum(parser.read(path) is not None for path in chosen) / len(chosen) if chosen else 0.0


def choose_tasks(
    by_class: Mapping[str, int], min_cells: int, known: Mapping[str, list[str]]
) -> tuple[dict[str, list[str]], int]:
    """Return tasks of the classes that have cells enough, and how many cells that takes.

    These are `min_cells`, or fewer where two classes would not have them. `known` tasks come first, without classes
    that have too few. Empty where no two classes have cells.
    """
    enough = min_cells
    able = [name for name, cells in by_class.items() if cells >= enough]
    if len(able) < 2:
        able = [name for name, cells in by_class.items() if cells >= LEAST]
        enough = min((by_class[name] for name in able), default=min_cells)
    if len(able) < 2:
        return {}, min_cells
    kept = {task: [name for name in classes if name in able] for task, classes in known.items()}
    kept = {task: classes for task, classes in kept.items() if len(classes) > 1}
    # A task that lost classes may be another one now.
    kept = {
        task: classes for task, classes in kept.items() if list(kept.values()).index(classes) == list(kept).index(task)
    }
    return kept or {"binary" if len(able) == 2 else "multiclass": sorted(able)}, enough


LEAST = 3
"""Cells of a class without which nothing can be trained and tested on it."""
