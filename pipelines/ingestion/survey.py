"""What the paths of an export say, before any file is opened."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.config import Dataset
from fatescope.data import instruments
from fatescope.data.export_folder import list_files, read_labels
from fatescope.data.native.names import is_native
from fatescope.data.paths import PathParser, PatternDiagnostics
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.native_cells import NativeCells, NativeFiles, find_overlaps
from pipelines.ingestion.native_ranges import cells_of

MAX_GROUPS = 30
"""Rows of the table of cells by class and group that are printed."""
MAX_REASONS = 10
"""Reasons why paths do not match that are printed."""


@dataclass
class ExportSurvey:
    """Counts of the files of an export by what their paths say."""

    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(class, group) → files of the input channel."""
    channels: Counter[str] = field(default_factory=Counter)
    """Channel → files; empty where paths name none."""
    unlisted: Counter[str] = field(default_factory=Counter)
    """Label that `dataset.classes` does not list → files of the input channel."""
    unmatched: list[str] = field(default_factory=list)
    """Paths that `dataset.pattern` does not match."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Paths of native files of instruments that give no cells, and why."""
    overlaps: list[str] = field(default_factory=list)
    """Acquisitions that are in several groups."""
    untagged: int = 0
    """Objects of native files that are in no population which is called like a class, or in two classes."""


def survey(dataset: Dataset, source: Path) -> ExportSurvey:
    """Parse the paths of all files below `source`."""
    labels, counts = read_labels(source), ExportSurvey()
    parser, natives = PathParser(dataset, labels), NativeFiles(dataset, source, labels)
    classes = {*dataset.classes.values()}
    known = list[NativeCells]()
    for path in list_files(source):
        if is_native(path):
            found = natives.read(path)
            known += [found] if isinstance(found, NativeCells) else []
            _count_native(path, found, source, counts, classes)
            continue
        if not natives.is_image(path):
            continue
        parsed = parser.read(path)
        if parsed is None:
            counts.unmatched.append(path)
            continue
        if "channel" in parsed.facts:
            counts.channels[parsed.facts["channel"]] += 1
        if parser.input_index(parsed) == 0:
            counts.cells[parsed.label, parsed.group] += 1
            if parsed.label not in classes:
                counts.unlisted[parsed.label] += 1
    counts.overlaps += find_overlaps(known)
    return counts


def _count_native(
    path: str, found: NativeCells | ImageError | DataError, source: Path, counts: ExportSurvey, classes: set[str]
) -> None:
    if not isinstance(found, NativeCells):
        counts.refused.append((path, str(found)))
        return
    codes = cells_of(found, source)
    counts.untagged += found.objects - len(codes)
    for code, number in zip(*np.unique(codes, return_counts=True), strict=True):
        label = found.labels[code]
        counts.cells[label, found.group] += int(number)
        if label not in classes:
            counts.unlisted[label] += int(number)


def describe_untagged(number: int, objects: str) -> str:
    """Say why a number of objects of native files, which the text `objects` names, is left out."""
    are, they = plural.agree(number, "is", "are"), plural.agree(number, "it is", "they are")
    return (
        f"{number:,} {objects} {are} left out: {they} in no population by hand that is called like a class, or in two "
        "classes"
    )


def describe(dataset: Dataset, counts: ExportSurvey) -> str:
    """Return the survey as text: cells by class and group, channels, and what does not match."""
    cells = pd.Series(counts.cells).rename_axis(["class", "group"]).rename("cells").sort_index()
    by_class = cells.groupby("class").agg(["sum", "size"]).set_axis(["cells", "groups"], axis=1)
    groups = plural.count(cells.index.unique("group").size, "group")
    lines = [f"{plural.count(int(cells.sum()), 'cell')} in {groups}", "", by_class.to_string()]
    lines += ["", cells.head(MAX_GROUPS).reset_index().to_string(index=False)]
    if len(cells) > MAX_GROUPS:
        lines.append(f"… and {len(cells) - MAX_GROUPS:,} more")
    if counts.channels:
        files = ", ".join(f"{channel}: {count:,}" for channel, count in sorted(counts.channels.items()))
        lines += ["", f"files by channel: {files}; the model sees channel {' and '.join(dataset.inputs)}"]
    if counts.unlisted:
        labels = ", ".join(f"{label} ({count:,})" for label, count in counts.unlisted.most_common())
        lines += ["", f"dataset.classes does not list {labels}; add them there, or the stage validate will fail"]
    if counts.unmatched:
        lines += ["", f"dataset.pattern does not match {plural.count(len(counts.unmatched), 'file')}:"]
        lines += _describe_unmatched(dataset, counts.unmatched)
    if counts.overlaps:
        lines += ["", *counts.overlaps[:MAX_REASONS]]
    if counts.untagged:
        objects = plural.agree(counts.untagged, "object", "objects")
        lines += ["", describe_untagged(counts.untagged, f"{objects} of native files")]
    if counts.refused:
        lines += ["", f"{plural.count(len(counts.refused), 'native file gives', 'native files give')} no cells:"]
        lines += [f"  {reason}" for _, reason in counts.refused[:MAX_REASONS]]
    return "\n".join(lines)


def explain_no_cells(
    dataset: Dataset,
    source: Path,
    channels: Counter[str],
    unmatched: list[str],
    unreadable: Sequence[tuple[str, str, str]] = (),
) -> str:
    """Return why no file below `source` is a cell of the input channel, and what to do about it.

    `unreadable` has the path, a code and the reason of all that is no file which could be opened, and of native files
    without cells.
    """
    natives = [refusal for refusal in unreadable if is_native(refusal[0])]
    if natives and all(instruments.explain(path) for path in unmatched):
        return natives[0][2] if len(natives) == 1 else _list_reasons(source, natives)
    if channels:
        wanted = " or ".join(f"'{name}'" for name in dataset.inputs)
        return (
            f"{source}: no file has channel {wanted}, but there are {dict(channels)}; "
            "name the brightfield channel in dataset.channels"
        )
    raw_files = [path for path in unmatched if instruments.explain(path)]
    if raw_files and len(raw_files) == len(unmatched):
        others = f", and {plural.count(len(raw_files) - 1, 'more such file')}" if len(raw_files) > 1 else ""
        return f"{source}: holds {raw_files[0]}{others}: {instruments.explain(raw_files[0])}"
    if unmatched:
        reasons = "\n".join(_describe_unmatched(dataset, unmatched))
        matches = plural.agree(
            len(unmatched), "does not match the only file", f"matches none of the {len(unmatched):,} files"
        )
        return (
            f"{source}: dataset.pattern {matches}; "
            f"change it from {dataset.pattern}, or let `fatescope data import` propose one\n{reasons}"
        )
    if unreadable:
        return _list_reasons(source, unreadable)
    return f"{source}: holds no files; name a folder or zip that does: `fatescope data import SRC`"


def _list_reasons(source: Path, unreadable: Sequence[tuple[str, str, str]]) -> str:
    reasons = "\n".join(f"  {reason}" for _, _, reason in unreadable[:MAX_REASONS])
    return f"{source}: holds no file that can be read, but {len(unreadable):,} that cannot:\n{reasons}"


def _describe_unmatched(dataset: Dataset, paths: list[str]) -> list[str]:
    """Return a line for each reason why paths do not match, the most frequent first."""
    diagnostics, by_reason = PatternDiagnostics(dataset.pattern), dict[str, list[str]]()
    for path in paths:
        by_reason.setdefault(instruments.explain(path) or diagnostics.reason(path), []).append(path)
    lines = [
        f"  {len(alike):,} such as {alike[0]}: {reason}"
        for reason, alike in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:MAX_REASONS]
    ]
    if len(by_reason) > MAX_REASONS:
        lines.append(f"  … and {plural.count(len(by_reason) - MAX_REASONS, 'more reason')}")
    return lines
