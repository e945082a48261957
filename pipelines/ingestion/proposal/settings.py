"""The fields of params.yaml that fit an export."""

from fatescope import plural
from fatescope.config import Params
from fatescope.config.data import is_coarse
from fatescope.errors import DataError
from pipelines.ingestion.proposal import section
from pipelines.ingestion.proposal.channels import ChannelChoice
from pipelines.ingestion.proposal.looks import reasons
from pipelines.ingestion.proposal.pixels import Sizes
from pipelines.ingestion.proposal.section import Counts, Draft
from pipelines.ingestion.proposal.wishes import Values, Words, shown

MIN_GROUPS = 3
"""A class with fewer acquisition groups cannot be tested on one that the model has not seen."""


def keep_hierarchy(
    hierarchy: dict[str, dict[str, list[str]]], tasks: dict[str, list[str]]
) -> dict[str, dict[str, list[str]]]:
    """Return the coarse classes of the `tasks` that still join several, but not all, of the classes that there are."""
    kept = {}
    for task, coarse in hierarchy.items():
        there = {name: [fine for fine in classes if fine in tasks.get(task, [])] for name, classes in coarse.items()}
        kept[task] = {name: classes for name, classes in there.items() if is_coarse(classes, tasks.get(task, []))}
    return {task: coarse for task, coarse in kept.items() if coarse}


def values_for(
    draft: Draft, channel: ChannelChoice, counts: Counts, sizes: Sizes, params: Params, words: Words
) -> Values:
    """Return the fields, and say what follows for classes, groups and sizes.

    Raises DataError where no two classes have cells enough for a task.
    """
    least = params.validation.min_cells_per_class
    tasks, enough = section.choose_tasks(counts.by_class(), least, draft.tasks)
    if not tasks:
        raise DataError(
            f"two classes of {section.LEAST} cells are needed for a model, but there are {shown(counts.by_class())}"
        )
    _tell_classes(counts, tasks, enough, least, words)
    values: Values = {
        "dataset": {
            "pattern": draft.pattern,
            "label": draft.label,
            "classes": draft.classes,
            "group": draft.group,
            **draft.channel_fields(channel.name, channel.known, channel.markers),
            "ranges": {name: list(ends) for name, ends in draft.ranges.items()},
            "tasks": tasks,
            "hierarchy": keep_hierarchy(draft.hierarchy, tasks),
            "track": draft.track,
            "time": draft.time,
        },
        **_for_sizes(sizes, params, words),
    }
    if enough < least:
        values["validate"]["min_cells_per_class"] = enough
    groups = {group for _, group in counts.cells}
    if gone := [group for group in params.split.leave_out if group not in groups]:
        values["split"] = {"leave_out": [group for group in params.split.leave_out if group in groups]}
        words.decide.append(f"split.leave_out names groups that are not there any more, which are taken out: {gone}")
    return values


def _tell_classes(counts: Counts, tasks: dict[str, list[str]], enough: int, least: int, words: Words) -> None:
    by_class, groups = counts.by_class(), counts.groups()
    named = {name for classes in tasks.values() for name in classes}
    in_groups = plural.count(len({group for _, group in counts.cells}), "group")
    words.sure.append(f"cells by class: {shown(by_class)}, in {in_groups}")
    if rare := [name for name in by_class if name not in named]:
        words.decide.append(f"of no task: {', '.join(rare)}; fewer than {enough} cells, or no class of the known task")
    if enough < least:
        words.decide.append(
            f"validate.min_cells_per_class is lowered from {least} to {enough}: enough to try the pipeline, not for a "
            "result"
        )
    if few := {name: groups[name] for name in sorted(named) if groups[name] < MIN_GROUPS}:
        words.decide.append(
            f"classes with fewer than {MIN_GROUPS} acquisition groups cannot be tested on a run that the model has not "
            f"seen: {shown(few)}; the test is on a random split then, which flatters"
        )


def _for_sizes(sizes: Sizes, params: Params, words: Words) -> Values:
    """Return the fields of ingest and validate that fit the sizes of crops."""
    limit = params.ingest.max_refused_share
    height, width = sizes.canvas(limit)
    of = "" if sizes.complete else f" ({plural.count(len(sizes.heights), 'was', 'were')} looked at)"
    words.sure.append(
        f"crops are {_span(sizes.heights)} px high and {_span(sizes.widths)} px wide{of}, of "
        f"{' or '.join(map(str, sorted(sizes.depths)))} bit; canvas {height}x{width} px"
    )
    outside = sum(h > height or w > width for h, w in zip(sizes.heights, sizes.widths, strict=True))
    if outside:
        crops = plural.count(outside, "crop is", "crops are")
        fit, are = plural.agree(outside, "does", "do"), plural.agree(outside, "is", "are")
        words.decide.append(f"{crops} far larger than the others, {fit} not fit the canvas, and {are} refused")
    if sizes.refused:
        images = plural.count(len(sizes.refused), "image is", "images are")
        words.decide.append(f"{images} refused: {reasons(sizes.refused)}")
    ingest: dict[str, object] = {"canvas": [height, width]}
    share = (len(sizes.refused) + outside) / (len(sizes.refused) + len(sizes.heights))
    if share > limit:
        ingest["max_refused_share"] = min(1.0, round(1.2 * share + 0.005, 3))
        words.decide.append(
            f"ingest.max_refused_share is raised from {limit} to {ingest['max_refused_share']} for that"
        )
    ranges = (sizes.range(sizes.heights, height), sizes.range(sizes.widths, width))
    return {"ingest": ingest, "validate": {"height_px": list(ranges[0]), "width_px": list(ranges[1])}}


def _span(lengths: list[int]) -> str:
    low, high = min(lengths), max(lengths)
    return f"{low}" if low == high else f"{low} to {high}"
