"""Check tables against expectations with Great Expectations, and write its Data Docs."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from fatescope.quality import data_docs
from fatescope.quality.expectations import Expectations, load_gx
from fatescope.quality.results import CheckResult

PLACES = 5
"""Classes and groups that are named where an expectation fails."""


def check_tables(tables: dict[str, tuple[pd.DataFrame, Expectations]], docs: Path) -> list[CheckResult]:
    """Check each named table against its expectations, write Data Docs to the folder `docs`, and return the results."""
    gx = load_gx()
    with warnings.catch_warnings():
        # It warns about its own use of other libraries while it runs, too.
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
            results += [_result(name, table, outcome) for outcome in next(iter(run.run_results.values())).results]
        context.build_data_docs()
    data_docs.finish(docs, results)
    return results


def _result(name: str, table: pd.DataFrame, outcome: Any) -> CheckResult:  # noqa: ANN401  of Great Expectations
    expectation, content = outcome.expectation_config, outcome.result
    column, unexpected = expectation.kwargs.get("column"), content.get("unexpected_count")
    rows = table.iloc[list(content.get("unexpected_index_list") or [])]
    if unexpected is not None:
        extent = f"{unexpected} of {len(table)} {name} violate it"
    else:
        observed = content.get("observed_value")
        extent = f"{observed} different" if isinstance(observed, int) else f"{content.get('details', observed)}"
    return {
        "table": name,
        "expectation": expectation.description,
        "column": column,
        "severity": getattr(expectation.severity, "value", expectation.severity),
        "passed": bool(outcome.success),
        "found": extent if not outcome.success or unexpected else "as expected",
        "unexpected": unexpected,
        "where": _where(rows, column) if not outcome.success else [],
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
