"""Check tables against expectations with Great Expectations, and write its Data Docs.

It needs a table in memory, several times. Of a large one it gets a sample, and the verdicts come from counts of the
whole table (`fatescope.quality.counting`).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fatescope import plural
from fatescope.quality import data_docs
from fatescope.quality.counting import Count
from fatescope.quality.expectations import Expectations, load_gx
from fatescope.quality.results import CheckResult

ROWS = {"cells": ("cell",), "groups": ("group",), "classes": ("class", "classes"), "window": ("cell",)}
"""Name of a table → what one of its rows is called and, where an s does not make it, what several are."""
PLACES = 5
"""Classes and groups that are named where an expectation fails."""


@dataclass(frozen=True)
class Whole:
    """A table of which Great Expectations gets a sample."""

    rows: int
    """Rows of the whole table."""
    counts: Sequence[Count | None]
    """How it meets each expectation; None where the sample says it, because it is not about rows."""


def check_tables(
    tables: dict[str, tuple[pd.DataFrame, Expectations]],
    docs: Path,
    whole: Mapping[str, Whole] | None = None,
    note: str = "",
) -> list[CheckResult]:
    """Check each named table against its expectations, write Data Docs to the folder `docs`, and return the results.

    Tables that are named in `whole` are samples. The first page says `note`.
    """
    gx = load_gx()
    with warnings.catch_warnings():
        # It warns about its own use of other libraries while it runs, too.
        warnings.simplefilter("ignore")
        context = _open_context(gx, docs)
        source = context.data_sources.add_pandas("fatescope")
        results: list[CheckResult] = []
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
            outcomes = next(iter(run.run_results.values())).results
            if whole and name in whole:
                # Outcomes are in another order than the expectations.
                found = {_identity(each): count for each, count in zip(expectations, whole[name].counts, strict=True)}
                counted = [found[_identity(outcome.expectation_config)] for outcome in outcomes]
                results += [
                    _result(name, table, outcome) if count is None else _counted(name, whole[name].rows, outcome, count)
                    for outcome, count in zip(outcomes, counted, strict=True)
                ]
            else:
                results += [_result(name, table, outcome) for outcome in outcomes]
        context.build_data_docs()
    data_docs.finish(docs, results, note)
    return results


def _open_context(gx: Any, docs: Path) -> Any:  # noqa: ANN401  of Great Expectations
    """Return a context of Great Expectations that is kept nowhere, and writes Data Docs to the folder `docs`."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.delete_data_docs_site("local_site")
    context.add_data_docs_site(
        "site", {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
    )
    return context


def _result(name: str, table: pd.DataFrame, outcome: Any) -> CheckResult:  # noqa: ANN401  of Great Expectations
    content = outcome.result
    column, unexpected = outcome.expectation_config.kwargs.get("column"), content.get("unexpected_count")
    rows = table.iloc[list(content.get("unexpected_index_list") or [])]
    if unexpected is not None:
        extent = _extent(unexpected, len(table), name)
    else:
        observed = content.get("observed_value")
        extent = f"{observed} different" if isinstance(observed, int) else f"{content.get('details', observed)}"
    where = _where(rows, column) if not outcome.success else []
    return _describe(name, outcome, bool(outcome.success), extent, unexpected, where)


def _counted(name: str, rows: int, outcome: Any, count: Count) -> CheckResult:  # noqa: ANN401  of Great Expectations
    """Return the result for a whole table of so many rows, which were counted."""
    passed, unexpected = count.passes(outcome.expectation_config.kwargs), None
    if count.different is not None:
        extent = f"{len(count.different)} different"
    else:
        unexpected = count.unexpected
        extent = _extent(unexpected, rows, name)
    largest = sorted(count.where.items(), key=lambda item: (-item[1], item[0]))[:PLACES]
    where = [f"{' '.join(key)}: {cells}" for key, cells in largest] if not passed else []
    return _describe(name, outcome, passed, extent, unexpected, where)


def _extent(unexpected: int, rows: int, name: str) -> str:
    """Say how many rows of the table called `name` violate an expectation."""
    of = plural.count(rows, *ROWS[name])
    return f"{unexpected:,} of {of} {plural.agree(unexpected, 'violates', 'violate')} it"


def _identity(expectation: Any) -> str:  # noqa: ANN401  of Great Expectations
    """Return what tells an expectation from the others of its suite: what it says of itself."""
    return str(expectation.description)


def _describe(
    name: str,
    outcome: Any,  # noqa: ANN401  of Great Expectations
    passed: bool,
    extent: str,
    unexpected: int | None,
    where: list[str],
) -> CheckResult:
    expectation = outcome.expectation_config
    return {
        "table": name,
        "expectation": expectation.description,
        "column": expectation.kwargs.get("column"),
        "severity": getattr(expectation.severity, "value", expectation.severity),
        "passed": passed,
        "found": extent if not passed or unexpected else "as expected",
        "unexpected": unexpected,
        "where": where,
    }


def _where(rows: pd.DataFrame, column: str | None) -> list[str]:
    """Return the classes and groups of most of `rows`; where a row is a group or a class, its value too."""
    keys = [name for name in ("label", "group") if name in rows]
    if "cells" in rows and column is not None:
        return [" ".join(map(str, row)) for row in rows[[*keys, column]].head(PLACES).itertuples(index=False)]
    if not keys:
        return []
    counts = rows[keys].value_counts().head(PLACES)
    return [f"{' '.join(names)}: {count}" for names, count in zip(counts.index, counts, strict=True)]
