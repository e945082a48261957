"""What cells must look like: the suite that guards training data, and the windows that production sees.

A window has no labels and no groups, so the suite comes in parts: `image_expectations` holds for any table of images,
`cell_expectations` adds what labels, groups and hashes must be, `group_expectations` and `class_expectations` are for
tables with one row a group or class. Great Expectations takes seconds to import: only the functions that need it do.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fatescope.config import Dataset, Validation
from fatescope.quality import data_docs

PLACES = 5
"""Classes and groups that are named for an expectation that fails."""
Expectations = Sequence[Any]
"""Instances of `great_expectations.expectations.Expectation`; `.severity` tells a failure from a warning."""


def load_gx() -> Any:  # noqa: ANN401  the module, which ships no types
    """Import Great Expectations, which then reports to nobody."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        # It warns of its own use of marshmallow and pandas, which nobody here can mend.
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415  see the module's docstring
    # It sets this logger to INFO itself, and would name a temporary folder at every evaluation of drift.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return gx


def image_expectations(params: Validation) -> Expectations:
    """Return what every image must be, with or without a label; columns as in `fatescope.data.dataset`."""
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
            description="All images have one bit depth: a change of camera or export is not in the data.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="saturation", max_value=params.max_saturation, mostly=mostly, severity="critical",
            description=f"At most {params.max_saturation:.1%} of pixels are saturated, {share} "
            "(validate.max_saturation).",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="spread", min_value=params.min_spread, mostly=mostly, severity="critical",
            description=f"The image is not blank: its spread is {params.min_spread} counts or more, {share} "
            "(validate.min_spread).",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="focus", min_value=params.min_focus, mostly=mostly, severity="warning",
            description=f"The image is in focus: its focus figure is {params.min_focus} or more, {share} "
            "(validate.min_focus).",
        ),
    ]  # fmt: skip


def cell_expectations(dataset: Dataset, params: Validation) -> Expectations:
    """Return what a table of training cells must be; it has the columns that `add_checked_columns` adds."""
    gxe = load_gx().expectations
    labels = sorted(set(dataset.classes.values()))
    columns = {"cell_id", "label", "group", "path", "sha256", "height", "width", "bit_depth", *dataset.group}
    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=sorted(columns), exact_match=False, severity="critical",
            description="The table has the columns that the later stages read.",
        ),
        gxe.ExpectColumnValuesToBeUnique(
            column="cell_id", severity="critical", description="Every cell has a name of its own."
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
        *image_expectations(params),
        gxe.ExpectColumnValuesToBeUnique(
            column="pixel_hash", mostly=1 - params.max_duplicate_share, severity="warning",
            description="No image is in the data twice.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="groups with these pixels", max_value=1, mostly=1 - params.max_duplicate_share, severity="critical",
            description="No image is in two groups, where it would leak from training into the test "
            "(validate.max_duplicate_share).",
        ),
    ]  # fmt: skip


def group_expectations(params: Validation) -> Expectations:
    """Return what a table of one row a class and group must be, as `group_table` makes it."""
    gxe = load_gx().expectations
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="cells", min_value=params.min_cells_per_group, severity="warning",
            description=f"Every class has {params.min_cells_per_group} cells or more in each of its groups "
            "(validate.min_cells_per_group).",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="background shift", max_value=params.max_background_shift, severity="warning",
            description=f"No group's background is more than {params.max_background_shift:.0%} from that of the others "
            "(validate.max_background_shift).",
        ),
    ]  # fmt: skip


def class_expectations(params: Validation) -> Expectations:
    """Return what a table of one row a class must be, as `class_table` makes it."""
    gxe = load_gx().expectations
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="cells", min_value=params.min_cells_per_class, severity="critical",
            description=f"Every class of a task has {params.min_cells_per_class} cells or more "
            "(validate.min_cells_per_class).",
        )
    ]  # fmt: skip


def add_checked_columns(manifest: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return the manifest with the columns that `cell_expectations` asks of beside its own."""
    # What is no number becomes infinite: Great Expectations passes over missing values.
    numbers = {
        f"{fact} (number)": pd.to_numeric(manifest[fact], errors="coerce").fillna(np.inf) for fact in dataset.ranges
    }
    shared = manifest.groupby("pixel_hash")["group"].transform("nunique")
    return manifest.assign(**numbers, **{"groups with these pixels": shared})


def group_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return one row a class and group: `label`, `group`, `cells`, and how far its background is from the median."""
    table = manifest.groupby(["label", "group"]).agg(cells=("label", "size"), background=("background", "median"))
    middle = table["background"].median()
    # A background of nothing, as on cut-out cells, has no shift to speak of below one count.
    shift = (table["background"].astype(float) - middle).abs() / max(middle, 1.0)
    table["background shift"] = shift.round(3)
    return table.reset_index()


def class_table(manifest: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Return one row for each class of any task: `label`, `cells`."""
    asked = sorted({name for classes in dataset.tasks.values() for name in classes})
    counts = manifest["label"].value_counts()
    return pd.DataFrame({"label": asked, "cells": [int(counts.get(name, 0)) for name in asked]})


def check(tables: dict[str, tuple[pd.DataFrame, Expectations]], docs: Path) -> list[dict[str, Any]]:
    """Check each named table against its expectations, write Data Docs to the folder `docs`, and return the results.

    A result has `table`, `expectation` (in words), `column`, `severity`, `passed`, `found` (in words), `unexpected`
    (how many rows, where the expectation is one of rows), and `where`: what most of those rows are.
    """
    gx = load_gx()
    with warnings.catch_warnings():
        # The same of its own use of other libraries while it works.
        warnings.simplefilter("ignore")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        context.delete_data_docs_site("local_site")
        context.add_data_docs_site(
            "site", {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
        )
        source = context.data_sources.add_pandas("fatescope")
        results = []
        for name, (table, expectations) in tables.items():
            batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
            suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
            definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
            context.validation_definitions.add(definition)
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[definition],
                actions=[gx.checkpoint.UpdateDataDocsAction(name="docs")],
                result_format={"result_format": "COMPLETE", "partial_unexpected_count": 10},
            )
            run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
            results += [_result(name, table, each) for each in next(iter(run.run_results.values())).results]
        context.build_data_docs()
    data_docs.finish(docs, results)
    return results


def _result(name: str, table: pd.DataFrame, found: Any) -> dict[str, Any]:  # noqa: ANN401  of Great Expectations
    asked, content = found.expectation_config, found.result
    column, unexpected = asked.kwargs.get("column"), content.get("unexpected_count")
    rows = table.iloc[list(content.get("unexpected_index_list") or [])]
    if unexpected is not None:
        extent = f"{unexpected} of {len(table)} {name} are not so"
    else:
        observed = content.get("observed_value")
        extent = f"{observed} different" if isinstance(observed, int) else f"{content.get('details', observed)}"
    return {
        "table": name,
        "expectation": asked.description,
        "column": column,
        "severity": str(getattr(asked.severity, "value", asked.severity)),
        "passed": bool(found.success),
        "found": extent if not found.success or unexpected else "as expected",
        "unexpected": unexpected,
        "where": _where(rows, column) if not found.success else [],
    }


def _where(rows: pd.DataFrame, column: str | None) -> list[str]:
    """Return the classes and groups of most of `rows`; where each row is a group or class, with its own value."""
    place = [name for name in ("label", "group") if name in rows]
    if "cells" in rows and column is not None:
        return [" ".join(map(str, row)) for row in rows[[*place, column]].head(PLACES).itertuples(index=False)]
    if not place:
        return []
    counts = rows[place].value_counts().head(PLACES)
    return [f"{' '.join(names)}: {count}" for names, count in zip(counts.index, counts, strict=True)]
