"""Check the cells against expectations before anything is trained on them; production windows are checked by the same.

`validation.json`: `passed`, and under `expectations` one entry each: `table`, `expectation` in words, `column`,
`severity` (`critical` fails the stage, `warning` does not), `passed`, `found` in words, `unexpected` rows, and `where`:
the classes and groups with most of the rows that fail. `validation/index.html` shows the same.

All of this is of all cells. Great Expectations itself, whose pages are beside it, looks at no more than SAMPLE cells,
drawn at random; where there are more, these are counted a part at a time, in memory that grows by a few bytes a cell.
`looked_at` says it: `cells` that there are, `by_great_expectations`, and the `seed` of the draw, null where it is all.
"""

import json
import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from fatescope import plural
from fatescope.command import CellsFolder, OutFile, ParamsFile, run
from fatescope.config import Dataset, Validation, load
from fatescope.data import table_parts
from fatescope.data.dataset import MANIFEST
from fatescope.data.table_parts import FileParts, FrameParts, TableParts
from fatescope.errors import DataError
from fatescope.lineage import WRITES
from fatescope.quality import checkpoint, counting, expectations
from fatescope.quality.checkpoint import Whole
from fatescope.quality.results import CheckResult

log = logging.getLogger(__name__)


SAMPLE = 20_000
"""Cells that Great Expectations looks at: it copies what it checks several times, and lists every row that fails."""
SEED = 0


def validate(
    manifest: pd.DataFrame | TableParts, dataset: Dataset, params: Validation, docs: Path, sample: int | None = None
) -> list[CheckResult]:
    """Check the manifest and return one result for each expectation; Data Docs go to the folder `docs`.

    Great Expectations gets up to `sample` cells, by default SAMPLE.
    """
    table = FrameParts(manifest) if isinstance(manifest, pd.DataFrame) else manifest
    of_cells, counts = expectations.cell_expectations(dataset, params), expectations.count_backgrounds(table)
    chosen = table_parts.sample_rows(len(table), SAMPLE if sample is None else sample, SEED)
    cells, whole, note = table_parts.take(table, chosen).reset_index(drop=True), None, ""
    if len(chosen) < len(table):
        shared = counting.shared_hashes(table)
        whole = {"cells": Whole(len(table), counting.count(table, dataset, of_cells, shared))}
        groups = np.where(counting.is_among(cells["pixel_hash"], shared), 2, 1)
        checked = expectations.add_numbers(cells, dataset).assign(**{expectations.SHARED: groups})
        note = (
            f"They look at {len(chosen):,} of the {len(table):,} cells, drawn at random (seed {SEED}); what is above "
            "was counted over all of them."
        )
    else:
        checked = expectations.add_checked_columns(cells, dataset)
    tables = {
        "cells": (checked, of_cells),
        "groups": (expectations.group_table(counts), expectations.group_expectations(params)),
        "classes": (expectations.class_table(counts, dataset), expectations.class_expectations(params)),
    }
    return checkpoint.check_tables(tables, docs, whole, note)


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
    docs: Annotated[Path, typer.Option("--docs", help="Folder to write the Data Docs into."), WRITES],
) -> None:
    """Check the cells against the expectations of the section validate; fail where they do not hold."""
    settings = load(params)
    cells = FileParts(source / MANIFEST)
    results = validate(cells, settings.dataset, settings.validation, docs)
    failed = [result for result in results if not result["passed"]]
    critical = [result for result in failed if result["severity"] == "critical"]
    target.parent.mkdir(parents=True, exist_ok=True)
    looked_at = {
        "cells": len(cells),
        "by_great_expectations": min(SAMPLE, len(cells)),
        "seed": SEED if len(cells) > SAMPLE else None,
    }
    report = {"passed": not critical, "expectations": results, "looked_at": looked_at}
    target.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    if critical:
        raise DataError(
            f"{len(critical)} of {plural.count(len(results), 'expectation')} failed; correct the data, or change the "
            f"parameter that is named. All results are in {docs / 'index.html'}.\n{describe(failed)}"
        )
    if failed:
        log.warning("%s:\n%s", plural.count(len(failed), "warning"), describe(failed))
    met = plural.count(len(results) - len(failed), "expectation is", "expectations are")
    log.info("%s met; see %s", met, docs / "index.html")


if __name__ == "__main__":
    run(main)
