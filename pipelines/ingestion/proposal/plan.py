"""Whether an export needs a proposal: not where the present section reads it, of which only what will fail is told."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fatescope import plural
from fatescope.config import Dataset, Params
from fatescope.data.export_folder import read_labels
from fatescope.data.native.reader import BIT_DEPTH
from fatescope.data.sidecar import Label, Labels
from pipelines.ingestion.native_cells import NativeCells, NativeFiles
from pipelines.ingestion.proposal import native, pixels, section, sheet
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.layout import infer
from pipelines.ingestion.proposal.pixels import Sizes
from pipelines.ingestion.proposal.propose import Proposal, propose
from pipelines.ingestion.proposal.section import Counts
from pipelines.ingestion.proposal.sheet_files import read_tables
from pipelines.ingestion.proposal.wishes import Values, Wishes, shown

log = logging.getLogger(__name__)

HEADERS = 2_000
"""Files of an export that is read already of which the size is looked at."""


_MIN_READ = 0.5
"""Share of the images from which on a section that lists a class of them is taken to be meant for them."""


@dataclass(frozen=True)
class Plan:
    """What an import does to `params.yaml`, and what it brings beside the images."""

    proposal: Proposal | None
    """None where the present section reads the export."""
    labels: dict[str, Label] = field(default_factory=dict, repr=False)
    """Rows of `fatescope_labels.csv` that a sheet gives."""
    foreseen: list[str] = field(default_factory=list)
    """What later stages will refuse by the present settings, and what to set."""
    values: Values = field(default_factory=dict)
    """Section → field → value that makes that right."""


def plan(export: Export, params: Params, wishes: Wishes, known: Mapping[str, int], *, forced: bool) -> Plan:
    """Return what an import of an export should do; `forced` asks for a proposal in any case.

    `known` has class → cells that are there already.

    Raises DataError as `propose` does.
    """
    if not (forced or wishes != Wishes()):
        sidecars = read_labels(export.folder) if export.sidecars else {}
        labels = _labels_of_sheet(export, params.dataset) | sidecars
        counts = _read_by(params.dataset, export, labels)
        if counts is not None:
            foreseen, values = _foresee(export, counts, params, labels)
            _foresee_tasks(params, Counter(counts.by_class()) + Counter(known), foreseen, values)
            return Plan(None, labels if labels != sidecars else {}, foreseen, values)
    proposal = propose(export, params, wishes)
    return Plan(proposal, proposal.labels)


def _labels_of_sheet(export: Export, dataset: Dataset) -> dict[str, Label]:
    """Return what a sheet in the export says of images, where the section lists all its classes; else nothing."""
    known = {name.lower(): name for name in dataset.classes.values()} | {
        value.lower(): name for value, name in dataset.classes.items()
    }
    layout = infer(export.images or export.natives) if any(map(sheet.is_sheet, export.paths)) else None
    for table in read_tables(export) if layout else ():
        assert layout is not None
        reading = sheet.understand(table, layout)
        if reading and not reading.missing and {row.label.lower() for row in reading.labels.values()} <= set(known):
            rows = sheet.as_labels(reading, layout)
            samples = plural.count(len(reading.labels), "sample")
            log.info("%s says the class and the group of %s", table.name, samples)
            return {path: Label(known[row.label.lower()], row.group) for path, row in rows.items()}
    return {}


def _read_by(dataset: Dataset, export: Export, labels: Labels) -> Counts | None:
    """Return what a section makes of an export; None where it leaves out most of it, or lists no class in it."""
    images, classes = export.images, set(dataset.classes.values())
    if images and section.share_matched(dataset, images) < _MIN_READ / 2:
        return None
    counts = section.count(dataset, images, labels)
    if export.natives:
        export.fetch_natives()
        natives = NativeFiles(dataset, export.folder, labels)
        for path in export.natives:
            found = natives.read(path)
            if isinstance(found, NativeCells):
                counts.cells.update({(label, found.group): found.objects for label in found.labels})
    if len(counts.unmatched) > (1 - _MIN_READ) * len(images) or not any(label in classes for label, _ in counts.cells):
        return None
    return counts


def _foresee(export: Export, counts: Counts, params: Params, labels: Labels) -> tuple[list[str], Values]:
    """Return what ingest and validate will refuse by the sizes of the crops, and what to set instead."""
    max_pixels = int(params.ingest.max_megapixels * 1e6)
    chosen = [counts.inputs[i] for i in pixels.spread(len(counts.inputs), HEADERS)] if counts.inputs else []
    export.fetch(chosen)
    sizes = pixels.read_sizes(export.folder, chosen, max_pixels)
    section.count_pages(counts, params.dataset, labels, sizes.pages)
    if export.natives:
        look = native.look_into(export, section.input_channel(params.dataset), max_pixels)
        for height, width in zip(look.sizes.heights, look.sizes.widths, strict=True):
            sizes.add(height, width, BIT_DEPTH)
    sizes.complete = len(chosen) == len(counts.inputs) and not export.natives
    return _compare(sizes, params) if sizes.heights else ([], {})


def _compare(sizes: Sizes, params: Params) -> tuple[list[str], Values]:
    foreseen, values = list[str](), Values()
    canvas, limit = sizes.canvas(params.ingest.max_refused_share), params.ingest.max_refused_share
    present = params.ingest.canvas
    too_large = sum(h > present[0] or w > present[1] for h, w in zip(sizes.heights, sizes.widths, strict=True))
    if too_large > limit * len(sizes.heights):
        wanted = [max(pair) for pair in zip(present, canvas, strict=True)]
        values["ingest"] = {"canvas": wanted}
        crops, fit = plural.count(len(sizes.heights), "crop"), plural.agree(too_large, "does not fit", "do not fit")
        foreseen.append(
            f"{too_large:,} of {crops} {fit} ingest.canvas ({present[0]}x{present[1]} px); it should be {wanted}"
        )
    for name, lengths, now, side in (
        ("height_px", sizes.heights, params.validation.height_px, canvas[0]),
        ("width_px", sizes.widths, params.validation.width_px, canvas[1]),
    ):
        if _share_outside(lengths, now) > params.validation.max_bad_share:
            low, high = sizes.range(lengths, side)
            wanted = [min(low, now[0]), max(high, now[1])]
            values.setdefault("validate", {})[name] = wanted
            foreseen.append(f"crops are {min(lengths)} to {max(lengths)} px, and validate.{name} is {list(now)}; it "
                            f"should be {wanted}")  # fmt: skip
    return foreseen, values


def _share_outside(lengths: Sequence[int], ends: tuple[int, int]) -> float:
    return sum(not ends[0] <= length <= ends[1] for length in lengths) / len(lengths)


def _foresee_tasks(params: Params, by_class: Counter[str], foreseen: list[str], values: Values) -> None:
    """Tell of classes of tasks that have too few cells for the stage validate, and what to set."""
    least = params.validation.min_cells_per_class
    named = dict.fromkeys(name for classes in params.dataset.tasks.values() for name in classes)
    few = {name: by_class[name] for name in named if by_class[name] < least}
    if not few:
        return
    tasks, enough = section.choose_tasks(by_class, least, params.dataset.tasks)
    remedy = f"dataset.tasks should be {tasks}" if tasks else "import more cells"
    if tasks:
        values["dataset"] = {"tasks": tasks}
    if tasks and enough < least:
        values.setdefault("validate", {})["min_cells_per_class"] = enough
        remedy += f", and validate.min_cells_per_class {enough}, which is enough to try the pipeline, not for a result"
    foreseen.append(f"classes with fewer cells than validate.min_cells_per_class ({least}): {shown(few)}; {remedy}")
