"""The answer to many images in formats that people take away: JSON, CSV, Parquet and FCS."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flowio
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.inference.uncertainty import VERDICTS
from service.inference.errors import RequestError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NEVER = -1
"""What an FCS event has where a cell has no number: the format knows no missing values."""


@dataclass(frozen=True)
class Format:
    """A way to write an answer."""

    media_type: str
    suffix: str
    write: Callable[[dict[str, Any]], bytes]


def to_json(answer: dict[str, Any]) -> bytes:
    """Write a BatchAnswer as it is."""
    return orjson.dumps(answer)


def to_csv(answer: dict[str, Any]) -> bytes:
    """Write a row a cell, those that were refused included."""
    table = tabulate(answer)
    # A spreadsheet would run a file name that begins like a formula.
    table["file"] = [f"'{name}" if name.startswith(_FORMULA) else name for name in table["file"]]
    return table.to_csv(index=False).encode()


def to_parquet(answer: dict[str, Any]) -> bytes:
    """Write a row a cell; what is true of the sample is in the metadata `fatescope`, as JSON."""
    table = pa.Table.from_pandas(tabulate(answer), preserve_index=False)
    about = {key: value for key, value in answer.items() if key != "cells"}
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), b"fatescope": to_json(about)}), buffer
    )
    return buffer.getvalue()


def to_fcs(answer: dict[str, Any]) -> bytes:
    """Write FCS 3.1 (Spidlen et al. 2010): an event a cell that was classified.

    Parameters: `event` (place among the cells of the answer, from 0), `object` (the instrument's number, -1 without
    one), `p_CLASS`, `label` and `verdict` (places in the keywords FATESCOPE_CLASSES and FATESCOPE_VERDICTS, from 0).
    """
    told = [(place, cell) for place, cell in enumerate(answer["cells"]) if cell.get("label") is not None]
    if not told:
        raise RequestError(400, "no_cells", "an FCS file needs an event, and no cell could be classified; ask for JSON")
    classes = list(told[0][1]["probabilities"])
    events = np.array(
        [
            (
                place,
                _NEVER if cell["object"] is None else cell["object"],
                *cell["probabilities"].values(),
                classes.index(cell["label"]),
                VERDICTS.index(cell["verdict"]),
            )
            for place, cell in told
        ],
        np.float32,
    )
    names = ["event", "object", *(f"p_{name}" for name in classes), "label", "verdict"]
    about = {
        "fatescope_model": f"{answer['model']['name']} {answer['model']['version']}",
        "fatescope_classes": ";".join(classes),
        "fatescope_verdicts": ";".join(VERDICTS),
        "fatescope_composition": to_json(answer["sample"]["composition"]).decode(),
        "cyt": "fatescope",
    }
    buffer = io.BytesIO()
    flowio.create_fcs(buffer, events.ravel(), names, metadata_dict=about)
    return buffer.getvalue()


FORMATS = {
    "json": Format("application/json", "json", to_json),
    "csv": Format("text/csv", "csv", to_csv),
    "parquet": Format("application/vnd.apache.parquet", "parquet", to_parquet),
    "fcs": Format("application/vnd.isac.fcs", "fcs", to_fcs),
}


def choose(named: str | None, accept: str) -> Format:
    """Return the format of an answer: `named` by the request, else the first that its Accept header knows, else JSON.

    Raises RequestError where the header allows none of them.
    """
    if named is not None:
        return FORMATS[named]
    ranges = [each.partition(";")[0].strip().lower() for each in accept.split(",") if each.strip()]
    for each in ranges:
        for form in FORMATS.values():
            if each == form.media_type:
                return form
    if not ranges or {"*/*", "application/*", "text/*"} & set(ranges):
        return FORMATS["json"]
    offered = ", ".join(form.media_type for form in FORMATS.values())
    raise RequestError(406, "not_acceptable", f"the answer comes as {offered}, but Accept says '{accept[:200]}'")


def tabulate(answer: dict[str, Any]) -> pd.DataFrame:
    """Return a row a cell of a BatchAnswer.

    Columns: `file`, `page`, `object`, `label`, `confidence`, `p_CLASS`, `conformal_set`, `verdict`, `warnings`,
    `error`, `reason`, and the `model` and `version` that answered.
    """
    cells = answer["cells"]
    classes = list(answer["sample"]["called"])
    said = [cell.get("probabilities") or {} for cell in cells]
    return pd.DataFrame(
        {
            "file": [cell["file"] for cell in cells],
            "page": pd.array([cell["page"] for cell in cells], "Int64"),
            "object": pd.array([cell["object"] for cell in cells], "Int64"),
            "label": [cell.get("label") for cell in cells],
            "confidence": [max(each.values(), default=None) for each in said],
            **{f"p_{name}": [each.get(name) for each in said] for name in classes},
            "conformal_set": [";".join(cell["conformal_set"]) if cell.get("label") else None for cell in cells],
            "verdict": [cell.get("verdict") for cell in cells],
            "warnings": [";".join(each["code"] for each in cell.get("warnings") or []) for cell in cells],
            "error": [(cell.get("error") or {}).get("code") for cell in cells],
            "reason": [(cell.get("error") or {}).get("message") for cell in cells],
            "model": answer["model"]["name"],
            "version": answer["model"]["version"],
        }
    )
