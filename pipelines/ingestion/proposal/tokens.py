"""The parts of a name, such as `astro_day3_run2`, and what kind of fact a column of them is."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "keyed", "prefixed", "dayrun", "date", "well", "number", "mixed", "channel"]
"""Of a column: words; `day3`; `CP0001`; `1d2`; `20260131`; `A01`; `17`; words with digits in all; `Ch1` or `BF`."""

KEYS = {
    "day": ("day", "days", "div", "d"),
    "hour": ("hour", "hours", "hr"),
    "week": ("week", "wk"),
    "run": ("run", "r", "acq", "acquisition"),
    "replicate": ("replicate", "rep", "repl", "biorep"),
    "donor": ("donor", "don"),
    "patient": ("patient", "pat", "subject", "subj"),
    "animal": ("animal", "mouse", "rat"),
    "plate": ("plate",),
    "experiment": ("experiment", "exp"),
    "batch": ("batch",),
    "sample": ("sample", "smp"),
    "tube": ("tube",),
    "slide": ("slide",),
    "passage": ("passage",),
}
"""Fact → how people write it before its number, in any case."""
PEOPLE = ("donor", "patient", "animal")
"""Facts of whom cells are from: all cells of one belong together, whatever class they are of."""
CHANNEL_WORDS = {
    "bf": "brightfield", "brightfield": "brightfield", "bright": "brightfield", "df": "darkfield",
    "darkfield": "darkfield", "ssc": "darkfield",
    **dict.fromkeys(("dapi", "hoechst", "gfp", "rfp", "yfp", "cfp", "fitc", "pe", "apc", "cy3", "cy5", "draq5",
                     "mcherry", "tdtomato", "fl", "fluo"), "marker"),
}  # fmt: skip
"""What people call channels → what they show."""
_KEY_OF = {spelling: fact for fact, spellings in KEYS.items() for spelling in spellings}
_KEYED = re.compile(r"([a-z]+)([0-9]+)", re.IGNORECASE | re.ASCII)
_SEPARATOR = re.compile(r"([_\-\s.,]+)")


@dataclass(frozen=True)
class Column:
    """The values that one part of all names has, and how a pattern reads them."""

    kind: Kind
    name: str
    """Of the fact; empty where it has no name of its own."""
    regex: str
    """Reads a value, with `{name}` where the name of its named group comes; without it where it is no fact."""
    values: Sequence[str]
    """Of each name, in order."""

    @property
    def distinct(self) -> dict[str, int]:
        """Return value, in lower case → how often it occurs."""
        return Counter(value.lower() for value in self.values)

    @property
    def is_constant(self) -> bool:
        """Return whether all names have one value."""
        return len(self.distinct) == 1


def split(text: str) -> tuple[list[str], list[str]]:
    """Return the parts of a name and what stands between them."""
    parts = _SEPARATOR.split(text)
    return parts[::2], parts[1::2]


def key_of(word: str) -> str:
    """Return which fact a word announces, empty where it announces none."""
    return _KEY_OF.get(word.lower(), "")


def describe(values: Sequence[str], before: str = "") -> Column:
    """Return what kind of column the values are; `before` is the constant word before them, if there is one."""
    lower = {value.lower() for value in values}
    if all(re.fullmatch(r"[0-9]+d[0-9]*", value) for value in lower):
        return Column("dayrun", "day", r"(?P<day>\d+)d(?P<run>\d*)", values)
    if all(re.fullmatch(r"[0-9]+", value) for value in lower):
        if all(re.fullmatch(r"(19|20)\d\d[01]\d[0-3]\d", value) for value in lower):
            return Column("date", "date", r"(?P<{name}>\d{{8}})", values)
        return Column("number", key_of(before), r"(?P<{name}>\d+)", values)
    if all(value in CHANNEL_WORDS for value in lower) and len(lower) > 1:
        return Column("channel", "channel", r"(?P<{name}>[A-Za-z0-9]+)", values)
    return _describe_words(values, lower)


def _describe_words(values: Sequence[str], lower: set[str]) -> Column:
    """Return what kind of column values with letters are."""
    keyed = [_KEYED.fullmatch(value) for value in lower]
    prefixes = {match[1] for match in keyed if match}
    if all(keyed) and len(prefixes) == 1:
        return _with_prefix(values, prefixes.pop())
    if all(re.fullmatch(r"[a-p]\d{1,2}", value) for value in lower) and len(prefixes) > 1:
        return Column("well", "well", r"(?P<{name}>[A-Pa-p]\d{{1,2}})", values)
    kind: Kind = "mixed" if all(re.search(r"\d", value) for value in lower) else "text"
    plain = all(re.fullmatch(r"[A-Za-z0-9]+", value) for value in values)
    letters, some = r"[A-Za-z0-9]" if plain else r"[^/_\s.,-]", "*" if "" in lower else "+"
    return Column(kind, "", rf"(?P<{{name}}>{letters}{some})", values)


def _with_prefix(values: Sequence[str], prefix: str) -> Column:
    """Return the column of values that are a number behind one `prefix`."""
    spelling = Counter(re.sub(r"\d+$", "", value) for value in values).most_common(1)[0][0]
    if prefix in ("ch", "channel", "chan"):
        return Column("channel", "channel", rf"{spelling}(?P<channel>\d+)", values)
    if fact := key_of(prefix):
        return Column("keyed", fact, rf"{spelling}(?P<{{name}}>\d+)", values)
    return Column("prefixed", prefix, rf"(?P<{{name}}>{spelling}\d+)", values)


def whole(values: Sequence[str], *, folder: bool) -> Column:
    """Return the column of values that are not taken apart: a `folder`, or the beginning of a name."""
    return Column("text", "", r"(?P<{name}>[^/]+)" if folder else r"(?P<{name}>[^/]+?)", values)


def columns(texts: Sequence[str], *, folder: bool) -> list[tuple[str, Column]]:
    """Return the columns of names that are alike, each with the pattern of what stands before it.

    Where names have different numbers of parts, those are taken off the end that all have, and then off the beginning;
    what remains is one column.
    """
    splits = [split(text) for text in texts]
    lengths = {len(parts) for parts, _ in splits}
    if len(lengths) == 1:
        return _merge_words(_uniform([parts for parts, _ in splits], [between for _, between in splits]))
    tail = _common_tail(splits)
    if not tail:
        return [("", whole(texts, folder=folder))]
    heads = []
    for parts, between in splits:
        kept = len(parts) - tail
        heads.append("".join(part + sep for part, sep in zip(parts[:kept], [*between[: kept - 1], ""], strict=True)))
    ends = _uniform([parts[-tail:] for parts, _ in splits], [between[-tail:] for _, between in splits], leading=True)
    return [("", whole(heads, folder=folder and not tail)), *ends]


def _common_tail(splits: Sequence[tuple[list[str], list[str]]]) -> int:
    """Return how many parts at the end are of one kind in all names that tells them from words."""
    most, tail = min(len(parts) for parts, _ in splits) - 1, 0
    while tail < most:
        column = describe([parts[-tail - 1] for parts, _ in splits])
        if column.kind == "text" and not column.is_constant:
            break
        tail += 1
    # A constant word is taken off only with what comes before it.
    while tail and (column := describe([parts[-tail] for parts, _ in splits])).kind == "text":
        tail -= 1
    return tail


def _uniform(
    parts: Sequence[list[str]], between: Sequence[list[str]], *, leading: bool = False
) -> list[tuple[str, Column]]:
    """Return the columns of names of as many parts; `leading` where a separator stands before the first one too."""
    found, before = list[tuple[str, Column]](), ""
    for i in range(len(parts[0])):
        column = describe([name[i] for name in parts], before)
        at = i if leading else i - 1
        separators = {name[at] for name in between} if at >= 0 else {""}
        found.append((_separator(separators), column))
        before = column.values[0] if column.kind == "text" and column.is_constant else ""
    return found


def _separator(spellings: set[str]) -> str:
    return re.escape(spellings.pop()).replace(r"\ ", " ") if len(spellings) == 1 else r"[_\s.,-]+"


def _merge_words(found: list[tuple[str, Column]]) -> list[tuple[str, Column]]:
    """Return columns in which words that always come together, such as `wild_type` and `knock_out`, are one."""
    merged = list[tuple[str, Column]]()
    for separator, column in found:
        last = merged[-1][1] if merged else None
        if last and last.kind == column.kind == "text" and not last.is_constant and not column.is_constant:
            pairs = {(a.lower(), b.lower()) for a, b in zip(last.values, column.values, strict=True)}
            if len(pairs) == len(last.distinct) == len(column.distinct):
                # By the separator as it is mostly written.
                joined = [f"{a}{_plain(separator)}{b}" for a, b in zip(last.values, column.values, strict=True)]
                merged[-1] = (merged[-1][0], Column("text", "", r"(?P<{name}>[^/]+?)", joined))
                continue
        merged.append((separator, column))
    return merged


def _plain(separator: str) -> str:
    return "_" if separator.startswith("[") else re.sub(r"\\(.)", r"\1", separator)
