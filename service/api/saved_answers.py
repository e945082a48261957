"""Answers that were saved as JSON, as cultures to describe: of /classify_batch, and results shared by the page."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from fatescope.errors import DataError
from fatescope.language.culture import REASONS, Culture, Share, Shift
from service.api.batch_schemas import CellResult, ClassifyBatchResponse
from service.api.schemas import CellCounts, ClassShare, Count
from service.inference.describing import is_unusual

MAX_BYTES = 500_000_000
_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Fraction = Annotated[float, Field(ge=0, le=1)]


class _SharedModel(BaseModel):
    simulated: bool = False


class _SharedSample(BaseModel):
    name: _Text
    verdicts: tuple[Count, Count, Count]
    """Cells that are sure, unsure and unlike the training cells."""
    outside: list[Count] | None = Field(min_length=len(REASONS) + 1, max_length=len(REASONS) + 1)
    excluded: bool
    shares: list[tuple[_Fraction, _Fraction, _Fraction]] | None


class _SharedDifference(BaseModel):
    name: _Text
    here: Annotated[float, Field(allow_inf_nan=False)]
    known: Annotated[float, Field(allow_inf_nan=False)]


class _SharedResult(BaseModel):
    """What `service/page/shared-result.js` writes; it may be of anybody."""

    fatescope_result: Annotated[int, Field(ge=1, le=1)]
    model: _SharedModel
    classes: list[_Text]
    samples: list[_SharedSample]
    differences: list[_SharedDifference]


def cultures(path: Path) -> dict[str, Culture]:
    """Return sample → its figures, of a saved answer; one without samples is of the sample ''.

    Raises DataError where the file is neither of both.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: over {MAX_BYTES // 10**6:,} MB, too long for an answer that was saved")
        return _read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(
            f"{path}: not an answer of /classify_batch, nor a result that the page has saved ({reason}); name one, or "
            "a folder of images"
        ) from error


def _read(text: str) -> dict[str, Culture]:
    """Return the figures in a file, which may be of anybody; raises ValueError where they cannot be described."""
    if '"fatescope_result"' in text[:1000]:
        found = _from_shared(_SharedResult.model_validate_json(text))
    else:
        found = _from_batch(ClassifyBatchResponse.model_validate_json(text))
    if wrong := next(filter(None, (culture.contradiction() for culture in found.values())), None):
        raise ValueError(wrong)
    return found


def _from_batch(answer: ClassifyBatchResponse) -> dict[str, Culture]:
    whole = {"": answer.sample}
    samples = {sample.sample or "": sample for sample in answer.samples} or whole
    cells: dict[str, list[CellResult]] = {name: [] for name in samples}
    followed = Counter((track.sample or "") if answer.samples else "" for track in answer.tracks)
    for cell in answer.cells:
        cells.get(cell.sample or "", cells.get("", [])).append(cell)
    return {
        name: _culture(counts, cells[name], followed[name], answer)
        for name, counts in samples.items()
        if counts.cells or counts.refused
    }


def _culture(counts: CellCounts, cells: list[CellResult], followed: int, answer: ClassifyBatchResponse) -> Culture:
    warned = [{warning.code for warning in cell.warnings or []} for cell in cells]
    return Culture(
        classes=tuple(counts.called),
        cells=counts.cells,
        sure=counts.sure,
        unsure=counts.unsure,
        unlike=counts.unlike_training,
        composition=_shares(counts.composition),
        refused=counts.refused,
        outside=counts.outside,
        outside_reasons={str(reason): count for reason, count in counts.outside_reasons.items()},
        excluded=answer.outside_excluded,
        lossy=sum("lossy" in codes for codes in warned),
        unusual=sum(map(is_unusual, warned)),
        followed=followed,
        simulated=answer.simulated,
    )


def _shares(composition: dict[str, ClassShare] | None) -> dict[str, Share] | None:
    if composition is None:
        return None
    return {name: Share(share.share, share.low, share.high) for name, share in composition.items()}


def _from_shared(result: _SharedResult) -> dict[str, Culture]:
    shifts = [Shift(shift.name, shift.here, shift.known) for shift in result.differences]
    return {sample.name: _from_shared_sample(sample, result, shifts) for sample in result.samples}


def _from_shared_sample(sample: _SharedSample, result: _SharedResult, shifts: list[Shift]) -> Culture:
    composition = None
    if sample.shares is not None:
        composition = {name: Share(*share) for name, share in zip(result.classes, sample.shares, strict=True)}
    return Culture(
        classes=tuple(result.classes),
        cells=sum(sample.verdicts),
        sure=sample.verdicts[0],
        unsure=sample.verdicts[1],
        unlike=sample.verdicts[2],
        composition=composition,
        outside=None if sample.outside is None else sample.outside[0],
        outside_reasons=None if sample.outside is None else dict(zip(REASONS, sample.outside[1:], strict=True)),
        excluded=sample.excluded,
        shifts=shifts,
        simulated=result.model.simulated,
    )
