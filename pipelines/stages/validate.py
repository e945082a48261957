"""Check the cells against expectations before anything is trained on them; production windows are checked by the same.

`validation.json`: `passed`, and under `expectations` one entry each: `table`, `expectation` in words, `column`,
`severity` (`critical` fails the stage, `warning` does not), `passed`, `found` in words, `unexpected` rows, and `where`:
the classes and groups with most of the rows that fail. `validation/index.html` shows the same.
"""

import json
import logging
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from fatescope.command import CellsFolder, OutFile, ParamsFile, run
from fatescope.config import Dataset, Validation, load
from fatescope.data.dataset import load as load_cells
from fatescope.errors import DataError
from fatescope.quality import checkpoint, expectations
from fatescope.quality.results import CheckResult

log = logging.getLogger(__name__)


def validate(manifest: pd.DataFrame, dataset: Dataset, params: Validation, docs: Path) -> list[CheckResult]:
    """Check the manifest and return one result for each expectation; Data Docs go to the folder `docs`."""
    tables = {
        "cells": (expectations.add_checked_columns(manifest, dataset), expectations.cell_expectations(dataset, params)),
        "groups": (expectations.group_table(manifest), expectations.group_expectations(params)),
        "classes": (expectations.class_table(manifest, dataset), expectations.class_expectations(params)),
    }
    return checkpoint.check_tables(tables, docs)


def describe(results: list[CheckResult]) -> str:
    """Return `results` as text, two lines each: the expectation, and how many rows fail it and where."""
    return "\n".join(
        f"  {result['severity']:8}  {result['expectation']}\n"
        f"            {'; '.join([result['found'], *result['where']])}"
        for result in results
    )


def main(
    params: ParamsFile,
    source: CellsFolder,
    target: OutFile,
    docs: Annotated[Path, typer.Option("--docs", help="Folder to write the Data Docs into.")],
) -> None:
    """Check the cells against the expectations of the section validate; fail where they do not hold."""
    settings = load(params)
    results = validate(load_cells(source).manifest, settings.dataset, settings.validation, docs)
    failed = [result for result in results if not result["passed"]]
    critical = [result for result in failed if result["severity"] == "critical"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps({"passed": not critical, "expectations": results}, indent=2, default=str) + "\n", encoding="utf-8"
    )
    if critical:
        raise DataError(
            f"{len(critical)} of {len(results)} expectations failed; correct the data, or change the parameter that is "
            f"named. All results are in {docs / 'index.html'}.\n{describe(failed)}"
        )
    if failed:
        log.warning("%d warnings:\n%s", len(failed), describe(failed))
    log.info("%d expectations are met; see %s", len(results) - len(failed), docs / "index.html")


if __name__ == "__main__":
    run(main)
