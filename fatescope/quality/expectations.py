"""What cells must satisfy: one suite for training data and for the windows that production sees.

A window has no labels and no groups, so the suite comes in parts: `image_expectations` apply to any table of images,
`cell_expectations` add what labels, groups and hashes must satisfy, `group_expectations` and `class_expectations` apply
to tables of one row per group or class.
Great Expectations takes seconds to import, so it is imported by the functions that need it.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.config import Dataset, Validation
from fatescope.data.table_parts import TableParts

SHARED = "groups with these pixels"
"""The column with the number of acquisition groups that have an image; of a sample, 2 stands for two or more."""

Expectations = Sequence[Any]
"""Instances of `great_expectations.expectations.Expectation`; `.severity` distinguishes failures from warnings."""


def load_gx() -> Any:  # noqa: ANN401  the module, which ships no types
    """Import Great Expectations with its telemetry turned off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        # It warns about its own use of marshmallow and pandas, which we cannot change.
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415  see the module's docstring
    # It sets this logger to INFO itself, and would name a temporary folder at every evaluation of drift.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return gx


def image_expectations(params: Validation, channels: Sequence[str] = ()) -> Expectations:
    """Return what every image must satisfy, labelled or not; columns as in `fatescope.data.dataset`.

    `channels` are those that the model sees; no focus is asked of others than the first.
    """
    gxe = load_gx().expectations
    mostly = 1 - params.max_bad_share
    share = f"in all but {params.max_bad_share:.1%} of cells"
    ranges = {"height": params.height_px, "width": params.width_px}
    return [
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=side, min_value=low, max_value=high, mostly=mostly, severity="critical",
                description=f"The {side} of the crop is {low} to {high} px, {share} (validate.{side}_px).",
            )
            for side, (low, high) in ranges.items()
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="bit_depth", min_value=1, max_value=1, severity="critical",
            description="All images have one bit depth: the camera and the export did not change.",
        ),
        *(
            expectation
            for suffix, where in [("", ""), *((f"_{channel}", f" in channel {channel}") for channel in channels[1:])]
            for expectation in (
                gxe.ExpectColumnValuesToBeBetween(
                    column=f"saturation{suffix}", max_value=params.max_saturation, mostly=mostly, severity="critical",
                    description=f"At most {params.max_saturation:.1%} of pixels are saturated{where}, {share} "
                    "(validate.max_saturation).",
                ),
                gxe.ExpectColumnValuesToBeBetween(
                    column=f"spread{suffix}", min_value=params.min_spread, mostly=mostly, severity="critical",
                    description=f"The image is not blank{where}: the standard deviation of its pixels is "
                    f"{params.min_spread} counts or more, {share} (validate.min_spread).",
                ),
            )
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="focus", min_value=params.min_focus, mostly=mostly, severity="warning",
            description=f"The image is in focus: its focus measure is {params.min_focus} or more, {share} "
            "(validate.min_focus).",
        ),
    ]  # fmt: skip


def cell_expectations(dataset: Dataset, params: Validation) -> Expectations:
    """Return what a table of training cells must satisfy; it needs the columns that `add_checked_columns` adds."""
    gxe = load_gx().expectations
    labels = sorted(set(dataset.classes.values()))
    columns = {"cell_id", "label", "group", "path", "sha256", "height", "width", "bit_depth", *dataset.group}
    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=sorted(columns), exact_match=False, severity="critical",
            description="The table has the columns that later stages read.",
        ),
        gxe.ExpectColumnValuesToBeUnique(
            column="cell_id", severity="critical", description="Every cell has its own name."
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=labels, severity="critical",
            description=f"Every label is one that dataset.classes lists: {', '.join(labels)}.",
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=f"{fact} (number)", min_value=low, max_value=high, severity="critical",
                description=f"The {fact} in the path is {low} to {high} (dataset.ranges).",
            )
            for fact, (low, high) in dataset.ranges.items()
        ),
        *image_expectations(params, dataset.inputs),
        gxe.ExpectColumnValuesToBeUnique(
            column="pixel_hash", mostly=1 - params.max_duplicate_share, severity="warning",
            description="No image is in the data twice.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column=SHARED, max_value=1, mostly=1 - params.max_duplicate_share, severity="critical",
            description="No image is in two groups, where it would leak from training into test "
            "(validate.max_duplicate_share).",
        ),
    ]  # fmt: skip


def group_expectations(params: Validation) -> Expectations:
    """Return what the table that `group_table` makes must satisfy."""
    gxe = load_gx().expectations
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="cells", min_value=params.min_cells_per_group, severity="warning",
            description=f"Every class has {plural.count(params.min_cells_per_group, 'cell')} or more in each of its "
            "groups (validate.min_cells_per_group).",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="background shift", max_value=params.max_background_shift, severity="warning",
            description=f"The background of no group differs by more than {params.max_background_shift:.0%} from that "
            "of all groups (validate.max_background_shift).",
        ),
    ]  # fmt: skip


def class_expectations(params: Validation) -> Expectations:
    """Return what the table that `class_table` makes must satisfy."""
    gxe = load_gx().expectations
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="cells", min_value=params.min_cells_per_class, severity="critical",
            description=f"Every class of a task has {plural.count(params.min_cells_per_class, 'cell')} or more "
            "(validate.min_cells_per_class).",
        )
    ]  # fmt: skip


def add_numbers(manifest: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return the manifest with a column `FACT (number)` for each fact that `dataset.ranges` bounds, where it has it."""
    # A value that is not a number becomes infinite, because Great Expectations ignores missing values.
    numbers = {
        f"{fact} (number)": pd.to_numeric(manifest[fact], errors="coerce").fillna(np.inf)
        for fact in dataset.ranges
        if fact in manifest
    }
    return manifest.assign(**numbers)


def add_checked_columns(manifest: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return the manifest with the derived columns that `cell_expectations` checks."""
    shared = manifest.groupby("pixel_hash")["group"].transform("nunique")
    return add_numbers(manifest, dataset).assign(**{SHARED: shared})


def count_backgrounds(table: TableParts) -> pd.DataFrame:
    """Return `cells`, the number of rows of each `label`, `group` and `background`: all that the next two need.

    A background is the median of whole numbers, so that there are few different ones, however many cells there are.
    """
    keys = ["label", "group", "background"]
    # One total of all parts at a time, because there may be many parts.
    total: pd.DataFrame | None = None
    for part in table.read(keys):
        counted = part.groupby(keys, observed=True, dropna=False).size().rename("cells").reset_index()
        joined = counted if total is None else pd.concat([total, counted])
        total = joined.groupby(keys, observed=True, dropna=False)["cells"].sum().reset_index()
    return total if total is not None else pd.DataFrame({name: [] for name in [*keys, "cells"]})


def group_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class and group: `label`, `group`, `cells`, `background`, `background shift`.

    `counts` comes from `count_backgrounds`. The shift is that of the group's median background from the median of all
    groups, as a share of that.
    """
    by_group = counts.groupby(["label", "group"], observed=True)
    table = pd.DataFrame({"cells": by_group["cells"].sum(), "background": by_group.apply(_median_background)})
    table["background"] = table["background"].astype(counts["background"].dtype)
    overall = table["background"].median()
    # Where cells are cut out and the background is zero, a shift below one count is no shift.
    shift = (table["background"].astype(float) - overall).abs() / max(overall, 1.0)
    table["background shift"] = shift.round(3)
    return table.reset_index()


def _median_background(counts: pd.DataFrame) -> float:
    """Return the median of backgrounds, each of which `cells` have; NaN where none is known."""
    known = counts[counts["background"].notna()].sort_values("background")
    values, until = known["background"].to_numpy(float), known["cells"].cumsum().to_numpy()
    if not len(values):
        return float("nan")
    middle = np.searchsorted(until, [(until[-1] - 1) // 2, until[-1] // 2], side="right")
    return float(values[middle].mean())


def class_table(counts: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return one row for each class that a task has: `label`, `cells`; `counts` comes from `count_backgrounds`."""
    labels = sorted({name for classes in dataset.tasks.values() for name in classes})
    cells = counts.groupby("label", observed=True)["cells"].sum()
    return pd.DataFrame({"label": labels, "cells": [int(cells.get(name, 0)) for name in labels]})
