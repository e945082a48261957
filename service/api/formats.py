"""Formats for the results of many images: JSON, CSV, Parquet and FCS."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.inference.uncertainty import VERDICTS
from service.api import fcs, spreadsheet
from service.api.archive import pack
from service.inference.errors import RequestError
from service.inference.results import BatchDict, CellCountsDict, CellDict, ExportedSampleDict

_NO_OBJECT = -1
"""Object number of an FCS event without one: the format has no missing values."""
_MAX_QUOTED_ACCEPT = 200
JSON, CSV, FCS, ZIP = "application/json", "text/csv", "application/vnd.isac.fcs", "application/zip"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Document:
    """Results in a format."""

    body: bytes
    media_type: str
    suffix: str


@dataclass(frozen=True)
class Format:
    """A format of a response."""

    media_type: str
    suffix: str
    write: Callable[[BatchDict], Document]
    """Return results in this format; an FCS file holds one sample, so that several are a zip of files."""


def _write_json(results: BatchDict) -> Document:
    return Document(orjson.dumps(results), JSON, "json")


def _write_csv(results: BatchDict) -> Document:
    """Return one row per cell, including cells that could not be classified; see `service.api.spreadsheet`."""
    return Document(spreadsheet.to_csv(tabulate(results)), CSV, "csv")


def _write_parquet(results: BatchDict) -> Document:
    """Return one row per cell; the metadata key `fatescope` has the rest of the results as JSON."""
    table = pa.Table.from_pandas(tabulate(results), preserve_index=False)
    rest = {key: value for key, value in results.items() if key != "cells"}
    metadata = {**(table.schema.metadata or {}), b"fatescope": orjson.dumps(rest)}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return Document(buffer.getvalue(), PARQUET, "parquet")


def _write_fcs(results: BatchDict) -> Document:
    """Return a file for each sample with classified cells, several of them as a zip; see `_to_fcs`.

    Raises RequestError where there is no such sample.
    """
    samples: dict[str | None, list[tuple[int, CellDict]]] = {}
    for index, cell in enumerate(results["cells"]):
        if cell.get("label") is not None:
            samples.setdefault(cell.get("sample"), []).append((index, cell))
    if not samples:
        message = "an FCS file needs an event, and no cell could be classified; request JSON"
        raise RequestError(400, "no_cells", message)
    summaries = {summary["sample"]: summary for summary in results.get("samples", [])}
    if len(samples) == 1:
        [(sample, cells)] = samples.items()
        whole = results["sample"]
        return Document(_to_fcs(results, sample, cells, summaries.get(sample, whole)), FCS, "fcs")
    files = (
        (sample or "loose files", _to_fcs(results, sample, cells, summaries.get(sample)))
        for sample, cells in samples.items()
    )
    return Document(pack(files, "fcs"), ZIP, "zip")


def _to_fcs(
    results: BatchDict,
    sample: str | None,
    classified: list[tuple[int, CellDict]],
    summary: CellCountsDict | None,
) -> bytes:
    """Return FCS 3.1 with one event for each of the `classified` cells of a sample, given with their indices.

    Parameters: `event` (index of the cell in the results, from 0), `object` (the instrument's number, -1 without one),
    `p_CLASS`, `label` and `verdict` (indices into the keywords FATESCOPE_CLASSES and FATESCOPE_VERDICTS, from 0).
    Raises ValueError for an object number that the format cannot hold exactly.
    """
    classes = list(classified[0][1]["probabilities"])
    numbers = [_NO_OBJECT if cell["object"] is None else cell["object"] for _, cell in classified]
    if max(numbers) > fcs.MAX_EXACT:
        raise ValueError(f"object number {max(numbers)} is above 2^53; request CSV, which holds it")
    events = np.array(
        [
            (
                index,
                number,
                *cell["probabilities"].values(),
                classes.index(cell["label"]),
                VERDICTS.index(cell["verdict"]),
            )
            for number, (index, cell) in zip(numbers, classified, strict=True)
        ],
        np.float64,
    )
    keywords = {
        "FATESCOPE_MODEL": f"{results['model']['name']} {results['model']['version']}",
        "FATESCOPE_CLASSES": ";".join(classes),
        "FATESCOPE_VERDICTS": ";".join(VERDICTS),
        "FATESCOPE_COMPOSITION": orjson.dumps(summary and summary["composition"]).decode(),
        "$CYT": "fatescope",
    }
    if sample:
        keywords |= {"FATESCOPE_SAMPLE": sample, "$SMNO": sample}
    keywords |= _role_keywords(cast("ExportedSampleDict | None", summary))
    return fcs.write_fcs(events, ["event", "object", *(f"p_{name}" for name in classes), "label", "verdict"], keywords)


def _role_keywords(summary: ExportedSampleDict | None) -> dict[str, str]:
    """Return the keywords that say what a sample is in the experiment: FATESCOPE_CONDITION and the like."""
    roles = summary and summary.get("roles")
    if not roles:
        return {}
    # Days and doses as people write them: 3, not 3.0.
    texts = {name: f"{value:.10g}" if isinstance(value, float) else value for name, value in roles.items()}
    return {f"FATESCOPE_{name.upper()}": str(text) for name, text in texts.items() if text is not None}


FORMATS = {
    "json": Format(JSON, "json", _write_json),
    "csv": Format(CSV, "csv", _write_csv),
    "parquet": Format(PARQUET, "parquet", _write_parquet),
    "fcs": Format(FCS, "fcs", _write_fcs),
}


def choose(requested: str | None, accept: str) -> Format:
    """Return the `requested` format, else the first one in the Accept header that exists, else JSON.

    Raises RequestError if the header allows none of them.
    """
    if requested is not None:
        return FORMATS[requested]
    media_ranges = [entry.partition(";")[0].strip().lower() for entry in accept.split(",") if entry.strip()]
    by_media_type = {form.media_type: form for form in FORMATS.values()}
    for media_range in media_ranges:
        if media_range in by_media_type:
            return by_media_type[media_range]
    if not media_ranges or {"*/*", "application/*", "text/*"} & set(media_ranges):
        return FORMATS["json"]
    received = accept[:_MAX_QUOTED_ACCEPT]
    raise RequestError(406, "not_acceptable", f"available are {', '.join(by_media_type)}, but Accept is '{received}'")


def tabulate(results: BatchDict) -> pd.DataFrame:
    """Return one row per cell.

    Columns: `sample`, `file`, `page`, `object`, `label`, `confidence`, `p_CLASS`, `conformal_set`, `coarse` and
    `coarse_probability` (where the task has coarse classes), `verdict`, `quality` (reasons; empty for a good cell),
    `warnings`, `error`, `reason`, and the `model` and its `version`.
    """
    cells = results["cells"]
    classes = list(results["sample"]["called"])
    probabilities = [cell.get("probabilities") or {} for cell in cells]
    errors = [cell.get("error") for cell in cells]
    coarse = [cell.get("coarse") for cell in cells]
    columns_of_coarse = {
        "coarse": [call and call["label"] for call in coarse],
        "coarse_probability": [call and call["probability"] for call in coarse],
    }
    return pd.DataFrame(
        {
            "sample": [cell.get("sample") for cell in cells],
            "file": [cell["file"] for cell in cells],
            "page": pd.array([cell["page"] for cell in cells], "Int64"),
            "object": pd.array([cell["object"] for cell in cells], "Int64"),
            "label": [cell.get("label") for cell in cells],
            "confidence": [max(row.values(), default=None) for row in probabilities],
            **{f"p_{name}": [row.get(name) for row in probabilities] for name in classes},
            "conformal_set": [";".join(cell["conformal_set"]) if cell.get("label") else None for cell in cells],
            **(columns_of_coarse if results.get("hierarchy") else {}),
            "verdict": [cell.get("verdict") for cell in cells],
            "quality": [None if cell.get("quality") is None else ";".join(cell["quality"] or []) for cell in cells],
            "warnings": [";".join(warning["code"] for warning in cell.get("warnings") or []) for cell in cells],
            "error": [error and error["code"] for error in errors],
            "reason": [error and error["message"] for error in errors],
            "model": results["model"]["name"],
            "version": results["model"]["version"],
        }
    )
