"""How an export may be read: by the present section, by a preset, by a sheet, or by what its paths have in common."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from fatescope import plural
from fatescope.config import Dataset
from fatescope.config.presets import list_presets
from fatescope.data.paths import PathParser
from pipelines.ingestion.proposal import roles, section
from pipelines.ingestion.proposal.layout import Layout
from pipelines.ingestion.proposal.native import NativeLook
from pipelines.ingestion.proposal.section import MIN_MATCHED, Draft
from pipelines.ingestion.proposal.sheet import UNLABELLED, Reading
from pipelines.ingestion.proposal.wishes import class_name

TAGGED = "population"
"""The named group, always empty, of objects whose class is a population."""


def by_known_schemes(present: Dataset, paths: Sequence[str]) -> Iterator[Draft]:
    """Yield the drafts of the present section and of the presets whose patterns match the paths of images.

    A preset counts only where it lists all values of the label: its pattern alone may match by chance.
    """
    counts = _counts(present, paths)
    if counts is not None:
        known = PathParser(present)
        classes = {value: known.class_of(value) or value for value in _spelt(counts)}
        # The classes of the file stay where the export has some of them; those of other data go.
        listed = bool(set(classes.values()) & set(present.classes.values()))
        yield _known(
            present, (present.classes if listed else {}) | classes, "the present pattern of dataset", tasks=listed
        )
    for preset in list_presets():
        if preset.kind != "data":
            continue
        dataset = Dataset.model_validate_json(json.dumps(preset.values()["dataset"]))
        counts = _counts(dataset, paths)
        if counts is not None and set(counts) <= set(dataset.classes):
            yield _known(
                dataset, dict(dataset.classes), f"a naming scheme that is known: preset {preset.name}", tasks=True
            )


def _known(dataset: Dataset, classes: dict[str, str], source: str, *, tasks: bool) -> Draft:
    return Draft(
        dataset.pattern, dataset.label, list(dataset.group), classes, source,
        channels=dict(dataset.channels or {}), markers=list(dataset.marker_channels),
        tasks=dict(dataset.tasks) if tasks else {}, ranges=dict(dataset.ranges) if tasks else {},
        hierarchy=dict(dataset.hierarchy) if tasks else {}, track=dataset.track, time=dataset.time,
    )  # fmt: skip


def _counts(dataset: Dataset, paths: Sequence[str]) -> Counter[str] | None:
    """Return value of the label → images; None where the pattern leaves out more than a few."""
    if section.share_matched(dataset, paths) < MIN_MATCHED - 0.02:
        return None
    parser = PathParser(dataset)
    parsed = [parser.read(path) for path in paths]
    values = Counter(one.facts[dataset.label] for one in parsed if one)
    return values if paths and values.total() >= MIN_MATCHED * len(paths) else None


def _spelt(counts: Counter[str]) -> list[str]:
    """Return values as they are mostly spelt, one of those that differ in case only."""
    spelling = {value.lower(): value for value, _ in reversed(counts.most_common())}
    return sorted(spelling.values(), key=str.lower)


def by_paths(layout: Layout, wanted: str | None) -> Draft | None:
    """Return the draft by what the paths of a layout have in common; None where nothing in them can be the class."""
    chosen = roles.choose(layout, wanted)
    if chosen.label is None:
        return None
    names = layout.names(chosen.label)
    values = _spelt(Counter(chosen.label.column.values))
    if chosen.label.column.kind == "keyed":
        values = [re.sub(r"^\D+", "", value) for value in values]
    others = layout.names(None)
    notes = [_rival(others[rival], list(rival.column.distinct)) for rival in chosen.rivals] + chosen.notes
    return Draft(
        layout.pattern(chosen.label), names[chosen.label], chosen.group, {value: class_name(value) for value in values},
        "what the paths have in common", notes=notes,
    )  # fmt: skip


def _rival(name: str, values: list[str]) -> str:
    shown = ", ".join(values[:5]) + (", …" if len(values) > 5 else "")
    return f"which part of the paths is the class: '{name}' ({shown}) could be too; --label {name} takes it"


def by_sheet(layout: Layout, reading: Reading) -> Draft:
    """Return the draft of paths that a sheet says the class of."""
    names = layout.names(None)
    pattern = layout.pattern(None)
    # The last one, which is nearest to a sample: the sheet says the class of its values.
    some = next(reversed(names.values()), next(iter(re.compile(pattern).groupindex), ""))
    classes = list(dict.fromkeys(label.label for label in reading.labels.values()))
    classes += [UNLABELLED] if reading.missing else []
    notes = list[str]()
    if reading.rivals:
        notes.append(
            f"which column of {reading.sheet.name} is the class: {', '.join(reading.rivals)} could be too; --label "
            "COLUMN takes another"
        )
    if reading.missing:
        shown = ", ".join("/".join(sample) for sample in reading.missing[:5])
        their = plural.agree(len(reading.missing), "its", "their")
        notes.append(
            f"{reading.sheet.name} has no row for {plural.count(len(reading.missing), 'sample')} ({shown}); {their} "
            f"cells are '{UNLABELLED}', of no task"
        )
    return Draft(
        pattern, some, [some], {name: name for name in classes},
        f"{reading.sheet.name} (rows are found by {' and '.join(reading.keys)}; class from {reading.label}, group from "
        f"{' and '.join(reading.group)})", notes=notes,
    )  # fmt: skip


def by_populations(layout: Layout, look: NativeLook) -> Draft | None:
    """Return the draft of native files in which people tagged populations; None where they did not."""
    tagged = [name for name, objects in look.populations.most_common() if objects]
    if len(tagged) < 2:
        return None
    # Whatever a file is called: its populations say the classes, and the run that it names is the group.
    pattern = f"(?P<{TAGGED}>)(?:^|/)(?P<sample>[^/]+?){layout.ending()}$"
    return Draft(
        pattern, TAGGED, [TAGGED], {name: class_name(name) for name in tagged},
        "populations that were made by hand in IDEAS; the group is the run that a file names",
        notes=["which populations are classes: those that are not may be removed from dataset.classes and its tasks"],
    )  # fmt: skip


def by_labels(layout: Layout) -> Draft:
    """Return the draft of images whose classes stand in a sidecar alone."""
    pattern = layout.pattern(None)
    some = next(iter(layout.names(None).values()), next(iter(re.compile(pattern).groupindex), ""))
    return Draft(pattern, some, [some], {}, "fatescope_labels.csv")


def parser(draft: Draft) -> PathParser:
    """Return what reads paths by the pattern of a draft."""
    # Any channel will do: all are read.
    return PathParser(draft.dataset("" if "(?P<channel>" in draft.pattern else None))
