"""Propose what `params.yaml` should say of an export, after a look at its names, headers and a few images."""

from dataclasses import dataclass, field

import numpy as np

from fatescope import plural
from fatescope.config import Dataset, Params
from fatescope.data.export_folder import read_labels
from fatescope.data.sidecar import Label, Labels
from fatescope.errors import DataError
from pipelines.ingestion.native_cells import NativeCells, NativeFiles
from pipelines.ingestion.native_ranges import cells_of
from pipelines.ingestion.proposal import drafts, native, section, sheet
from pipelines.ingestion.proposal.channels import choose_channel
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.layout import Layout, infer
from pipelines.ingestion.proposal.looks import look_at_crops, look_at_sizes, of_depths, of_quality, of_unmatched
from pipelines.ingestion.proposal.native import NativeLook
from pipelines.ingestion.proposal.section import Counts, Draft
from pipelines.ingestion.proposal.settings import values_for
from pipelines.ingestion.proposal.sheet import Reading
from pipelines.ingestion.proposal.sheet_files import read_sheets
from pipelines.ingestion.proposal.sheet_keys import samples_of
from pipelines.ingestion.proposal.wishes import Values, Wishes, Words


@dataclass(frozen=True)
class Proposal:
    """What an export is proposed to be read by."""

    values: Values
    """Section → field → value."""
    sure: list[str]
    """What was found, in words."""
    decide: list[str]
    """What a person should decide or know."""
    classes: dict[str, int]
    """Class → cells."""
    labels: dict[str, Label] = field(default_factory=dict, repr=False)
    """Rows of `fatescope_labels.csv` that a sheet gives."""


def propose(export: Export, params: Params, wishes: Wishes) -> Proposal:
    """Return what `params` should say so that the pipeline runs on an export.

    Raises DataError where nothing says the class of its cells, or too little of it can be read.
    """
    present, max_pixels = params.dataset, int(params.ingest.max_megapixels * 1e6)
    images, natives = export.images, export.natives
    layout = infer(images or natives)
    if layout is None:
        raise DataError(f"{export.name}: holds neither images nor native files of an instrument")
    look = native.look_into(export, wishes.channel, max_pixels) if natives else NativeLook()
    sidecars = read_labels(export.folder) if export.sidecars else {}
    reading = read_sheets(export, layout, wishes)
    draft = _draft(present, layout, look, reading, wishes, sidecars)
    if draft is None:
        raise DataError(_explain_no_class(export, layout, look))
    # What a sidecar says of an image is of that image alone.
    labels = (sheet.as_labels(reading, layout) if reading else {}) | sidecars
    draft = _with_classes_of(draft, sidecars)
    words = Words([f"read by {draft.source}"], list(draft.notes))
    channel = choose_channel(export, draft, layout, look, wishes, words, max_pixels)
    dataset = draft.dataset(channel.name)
    counts = section.count(dataset, images, labels)
    words.decide += _add_natives(counts, dataset, export, labels)
    if not counts.cells:
        raise DataError(f"{export.name}: no cell could be read by {draft.source}: {'; '.join(look.problems[:3])}")
    sizes = look_at_sizes(export, counts, look, max_pixels)
    section.count_pages(counts, dataset, labels, sizes.pages)
    crops = look_at_crops(export, counts, look, max_pixels)
    values = values_for(draft, channel, counts, sizes, params, words)
    words.decide += [*of_depths(sizes), *of_quality(crops, params), *of_unmatched(counts, len(images))]
    return Proposal(values, words.sure, words.decide, counts.by_class(), labels if reading else {})


def _draft(
    present: Dataset, layout: Layout, look: NativeLook, reading: Reading | None, wishes: Wishes, sidecars: Labels
) -> Draft | None:
    """Return how the export is read: a sheet counts before paths, known schemes before what paths have in common."""
    if reading is not None:
        return drafts.by_sheet(layout, reading)
    if layout.native and (tagged := drafts.by_populations(layout, look)):
        return tagged
    if wishes.label is None and not layout.native:
        known = next(drafts.by_known_schemes(present, layout.paths), None)
        if known is not None:
            return known
    if draft := drafts.by_paths(layout, wishes.label):
        return draft
    return drafts.by_labels(layout) if sidecars else None


def _with_classes_of(draft: Draft, sidecars: Labels) -> Draft:
    """Return a draft that lists the classes of sidecars too."""
    known = set(draft.classes.values())
    more = {row.label: row.label for row in sidecars.values() if row.label not in known}
    return Draft(**{**vars(draft), "classes": draft.classes | more}) if more else draft


def _explain_no_class(export: Export, layout: Layout, look: NativeLook) -> str:
    samples = ["/".join(sample) for sample in dict.fromkeys(samples_of(layout))]
    if samples == [""]:
        return (
            f"{export.name}: nothing in its names says of which sample or class a cell is; put the images of each "
            "sample into a folder of its own, in a folder that is called like the class"
        )
    rows = "\n".join(f"  {sample}," for sample in samples[:8])
    tag = " Or tag cells of each class in IDEAS, and save the .daf beside its file." if layout.native else ""
    problems = f" {look.problems[0]}" if look.problems else ""
    return (
        f"{export.name}: nothing in its names says which class a cell is of.{problems}{tag} Write a table with the "
        f"class of each sample, such as\n  sample,class\n{rows}\nsave it as samples.csv in the export, or name it "
        "with --sheet"
    )


def _add_natives(counts: Counts, dataset: Dataset, export: Export, labels: Labels) -> list[str]:
    """Count the objects of native files, and return what is wrong with files that give no cells."""
    natives, problems = NativeFiles(dataset, export.folder, labels), list[str]()
    for path in export.natives:
        found = natives.read(path)
        if not isinstance(found, NativeCells):
            problems.append(str(found))
            continue
        codes = cells_of(found, export.folder)
        for code, number in zip(*np.unique(codes, return_counts=True), strict=True):
            counts.cells[found.labels[code], found.group] += int(number)
    files = plural.count(len(problems), "native file gives", "native files give")
    return [f"{files} no cells, such as {problems[0]}"] if problems else []
