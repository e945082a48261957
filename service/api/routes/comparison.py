"""The endpoint that compares samples which were classified before; it gets no images."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from fatescope.inference.comparison import LEVEL
from fatescope.inference.comparison_report import Curve, Difference
from service.api import spreadsheet
from service.api.comparison_schemas import (
    ComparedSample,
    CompareRequest,
    CompareResponse,
    CurveOfShares,
    DifferenceOfCondition,
    SampleShares,
)
from service.api.formats import CSV, Document
from service.api.routes.parameters import download
from service.api.schemas import ClassShare
from service.api.state import state_of
from service.inference import comparison
from service.inference.comparison import Choices, Compared, Roles
from service.inference.errors import RequestError

router = APIRouter(tags=["page"])
_ROUNDING = 0.01
"""How far from 1 the sum of rounded shares may be."""
_ROLES = ("sample", "condition", "replicate", "day", "dose", "donor")


@router.post("/compare", response_model=CompareResponse)
def compare(
    request: Request,
    asked: CompareRequest,
    format: Annotated[  # noqa: A002  the name in the query
        Literal["json", "csv"], Query(description="Format of the response; CSV has the differences.")
    ] = "json",
) -> CompareResponse | Response:
    """Compare conditions by the class shares of their samples, from replicates.

    Nothing is stored. A condition with one replicate has neither an interval nor a p-value, and the reason in
    `why_not`.
    """
    model = state_of(request.scope).models.get(asked.task)
    if asked.version != model.champion.version:
        raise RequestError(
            409, "version", f"version: the samples were classified by {asked.version}, and {model.champion.version} is "
            "in service now; classify them again"
        )  # fmt: skip
    counted = [sample for sample in asked.samples if sample.cells]
    _check(asked, counted, model.spec.classes)
    compared = comparison.compare(
        [Roles(**sample.model_dump(include=set(_ROLES))) for sample in counted],
        np.array([_normalise(sample.mean, model.spec.classes) for sample in counted]),
        [sample.cells for sample in counted],
        [None if sample.shares is None else _normalise(sample.shares, model.spec.classes) for sample in counted],
        model.spec,
        model.champion.path,
        Choices(asked.reference, asked.dose_unit or ""),
    )
    answer = _answer(asked, counted, compared, model.spec.classes)
    if format == "json":
        return answer
    return download(Document(spreadsheet.to_csv(_tabulate(answer)), CSV, "csv"), f"{asked.task}-comparison")


def _check(asked: CompareRequest, counted: list[ComparedSample], classes: list[str]) -> None:
    """Raise RequestError where samples cannot be compared."""
    if not counted:
        raise RequestError(422, "parameters", "samples: none has a cell that counts; classify cells first")
    for sample in counted:
        for name, values in (("mean", sample.mean), ("shares", sample.shares)):
            if values is not None and (set(values) != set(classes) or abs(sum(values.values()) - 1) > _ROUNDING):
                message = f"{name} of '{sample.sample}': give a number for each of {', '.join(classes)}"
                raise RequestError(422, "parameters", f"{message}, which add up to 1")
    conditions = {sample.condition for sample in counted}
    if asked.reference is not None and asked.reference not in conditions:
        shown = ", ".join(sorted(conditions)[:10])
        raise RequestError(
            422,
            "parameters",
            f"reference: no sample with cells has the condition '{asked.reference}'; there are {shown}",
        )


def _normalise(values: dict[str, float], classes: list[str]) -> comparison.Floats:
    """Return (K,) numbers that add up to one, which rounded ones do not."""
    numbers = np.array([values[name] for name in classes])
    normalised: comparison.Floats = numbers / numbers.sum()
    return normalised


def _answer(
    asked: CompareRequest, counted: list[ComparedSample], compared: Compared, classes: list[str]
) -> CompareResponse:
    return CompareResponse(
        task=asked.task,
        version=asked.version,
        level=LEVEL,
        unit="replicate",
        reference=compared.reference,
        differences=[_difference(row) for row in compared.differences],
        samples=[
            SampleShares(
                **sample.model_dump(include=set(_ROLES)),
                class_shares={
                    name: ClassShare(share=share, low=low, high=high)
                    for name, share, low, high in zip(
                        classes, found.shares.tolist(), found.low.tolist(), found.high.tolist(), strict=True
                    )
                },
            )
            for sample, found in zip(counted, compared.compositions, strict=True)
        ],
        curves=[_curve(curve) for curve in compared.curves],
        left_out=[sample.sample for sample in asked.samples if not sample.cells],
    )


def _difference(row: Difference) -> DifferenceOfCondition:
    fields: dict[str, Any] = asdict(row)
    estimate = fields.pop("estimate")
    return DifferenceOfCondition(**{"class": fields.pop("name")}, **fields, **estimate, differs=row.estimate.differs)


def _curve(curve: Curve) -> CurveOfShares:
    fields: dict[str, Any] = asdict(curve)
    return CurveOfShares(**{"class": fields.pop("name")}, **fields)


def _tabulate(answer: CompareResponse) -> pd.DataFrame:
    """Return the differences as a table, one row each."""
    columns = [field.alias or name for name, field in DifferenceOfCondition.model_fields.items()]
    rows = [row.model_dump(by_alias=True) for row in answer.differences]
    table = pd.DataFrame(rows, columns=columns)
    counts = table.pop("replicates")
    # Two columns in place of a list.
    for offset, name in enumerate(("replicates", "reference_replicates")):
        numbers = pd.Series([count[offset] for count in counts], dtype="Int64")
        table.insert(columns.index("replicates") + offset, name, numbers)
    return table
