"""Which part of the paths is the class, and which parts make an acquisition group."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from fatescope.errors import DataError
from pipelines.ingestion.proposal import tokens
from pipelines.ingestion.proposal.layout import LABEL, Layout, Part

MAX_CLASSES = 30
"""More values than these are no classes."""
MIN_GROUPS = 3
"""A class with fewer acquisition groups cannot be tested on one that the model has not seen."""
CLOSE = 2
"""A part whose score is within this of the best may be meant as well."""
_WORDS = {
    "control", "ctrl", "ctl", "untreated", "treated", "vehicle", "dmso", "mock", "wt", "ko", "wildtype", "mutant",
    "infected", "uninfected", "parasitized", "healthy", "diseased", "live", "dead", "apoptotic", "astro", "astrocyte",
    "astrocytes", "oligo", "oligodendrocyte", "oligodendrocytes", "neuron", "neurons", "npc", "nsc", "ipsc", "g1", "s",
    "g2", "m", "s_phase", "g2m", "prophase", "metaphase", "anaphase", "telophase", "positive", "negative", "pos", "neg",
}  # fmt: skip
"""What classes are often called."""
_SPREAD = {"train", "val", "validation", "test"}
_NO_CLASS = ("channel", "date", "dayrun", "number")


@dataclass(frozen=True)
class Roles:
    """What the parts of the paths mean."""

    label: Part | None
    """None where no part can be the class."""
    rivals: list[Part] = field(default_factory=list)
    """Other parts that may be the class."""
    group: list[str] = field(default_factory=list)
    """Named groups that make an acquisition group."""
    notes: list[str] = field(default_factory=list)
    """What was taken for granted, for a person to check."""


def choose(layout: Layout, wanted: str | None = None) -> Roles:
    """Return the roles of the parts of a layout; `wanted` is the named group, or a value, of the class.

    Raises DataError where no part is called so.
    """
    scores = {part: _score(layout, part) for part in layout.facts if _may_be_class(part)}
    ranked = sorted(scores, key=lambda part: -scores[part])
    if wanted is not None:
        ranked = [_named(layout, wanted)]
    elif not ranked or scores[ranked[0]] <= 0:
        return Roles(None)
    label = ranked[0]
    rivals = [part for part in ranked[1:] if scores[part] > 0 and scores[label] - scores[part] <= CLOSE]
    group, notes = _group(layout, label)
    return Roles(label, rivals, group, notes)


def _named(layout: Layout, wanted: str) -> Part:
    named = layout.names(None)
    for part, name in named.items():
        if wanted.lower() in (name, *part.column.distinct):
            return part
    known = {name: ", ".join(list(part.column.distinct)[:5]) for part, name in named.items()}
    raise DataError(f"--label {wanted}: no part of the paths is called so or has that value; there are {known}")


def _may_be_class(part: Part) -> bool:
    column = part.column
    return column.kind not in _NO_CLASS and 2 <= len(column.distinct) <= MAX_CLASSES and column.name not in tokens.KEYS


def _score(layout: Layout, part: Part) -> int:
    """Return how much a part looks like the class; above 0 where it may be."""
    column = part.column
    values = set(column.distinct)
    if values <= _SPREAD:
        return -1
    score = {"text": 3, "mixed": 0, "prefixed": -1, "well": -3}.get(column.kind, 0)
    score += 4 if values & _WORDS else 0
    score += 2 if part.level < layout.depth else 0
    score += 2 if _is_repeated(layout, part) else 0
    score -= 2 if len(values) > 10 else 0
    if column.kind == "prefixed" and column.name in ("s", "sample", "w", "well", "p", "f", "cp"):
        score -= 3
    return score


def _is_repeated(layout: Layout, part: Part) -> bool:
    """Return whether most values of a part occur in several samples."""
    others = [other for other in layout.facts if other is not part]
    if not others:
        return False
    samples = defaultdict[str, set[tuple[str, ...]]](set)
    for i, value in enumerate(part.column.values):
        samples[value.lower()].add(tuple(other.column.values[i].lower() for other in others))
    return 2 * sum(len(its) > 1 for its in samples.values()) > len(samples)


def _group(layout: Layout, label: Part) -> tuple[list[str], list[str]]:
    """Return the named groups that make an acquisition group, and what was taken for granted."""
    named = layout.names(label)
    others = [part for part in layout.facts if part is not label]
    if people := [part for part in others if part.column.name in tokens.PEOPLE and not part.column.is_constant]:
        return [named[part] for part in people], []
    ids = _without_fine_parts(layout, label, others)
    names = [name for part in ids for name in (("day", "run") if part.column.kind == "dayrun" else (named[part],))]
    if not names:
        return [LABEL], []
    if any(_is_identity(part) for part in ids):
        return names, []
    shared = _shared_values(label, ids)
    notes = []
    if shared:
        notes.append(
            f"{' '.join(names)} has the same values in several classes, such as {shared}; they are taken as different "
            f"acquisitions, with the class in the group; were they one, remove '{LABEL}' from dataset.group"
        )
    return [LABEL, *names], notes


def _is_identity(part: Part) -> bool:
    """Return whether equal values of a part mean one acquisition, whatever the class: a date or a code, no number."""
    column = part.column
    if column.is_constant:
        return False
    longest = max(len(value) for value in column.distinct)
    return column.kind in ("date", "mixed", "text") or (column.kind in ("prefixed", "number") and longest > 3)


def _without_fine_parts(layout: Layout, label: Part, parts: list[Part]) -> list[Part]:
    """Return `parts` without those that only divide acquisitions, such as the time of an image, the finest first."""
    kept = list(parts)
    for part in sorted(parts, key=lambda part: -len(part.column.distinct)):
        rest = [other for other in kept if other is not part]
        fine = part.column.kind == "mixed" or len(part.column.distinct) > len(layout.paths) / 20
        if fine and rest and min(_groups_by_class(label, rest).values()) >= MIN_GROUPS:
            kept = rest
    return kept


def _groups_by_class(label: Part, parts: list[Part]) -> dict[str, int]:
    groups = defaultdict[str, set[tuple[str, ...]]](set)
    for i, value in enumerate(label.column.values):
        groups[value.lower()].add(tuple(part.column.values[i].lower() for part in parts))
    return {value: len(its) for value, its in groups.items()}


def _shared_values(label: Part, parts: list[Part]) -> str:
    """Return values that occur in several classes, empty where there are none."""
    classes = defaultdict[tuple[str, ...], Counter[str]](Counter)
    for i, value in enumerate(label.column.values):
        classes[tuple(part.column.values[i] for part in parts)][value.lower()] += 1
    return next((" ".join(values) for values, its in classes.items() if len(its) > 1), "")
