"""The endpoint that describes a culture which was classified before; it gets its figures, and no images or names."""

from fastapi import APIRouter, Request

from service.api.description_schemas import CultureFigures, DescribeCultureRequest, DescribeCultureResponse
from service.api.state import state_of
from service.inference import describing, summary
from service.inference.describing import Images
from service.inference.errors import RequestError
from service.inference.results import CellCountsDict
from service.inference.served_model import ServedModel

router = APIRouter(tags=["page"])


@router.post("/describe")
def describe(request: Request, asked: DescribeCultureRequest) -> DescribeCultureResponse:
    """Describe a culture in a paragraph in which every number is one of its figures.

    Where the operator has set up a language model, it writes what was found, from these figures alone; what it writes
    is checked, and a template takes its place where a number or a word is not borne out. The caveats are always those
    of the template. Nothing is stored.
    """
    state = state_of(request.scope)
    model = state.models.get(asked.task)
    if asked.version != model.champion.version:
        raise RequestError(
            409, "version", f"version: the cells were classified by {asked.version}, and {model.champion.version} is "
            "in service now; classify them again"
        )  # fmt: skip
    _check_features(asked.culture, model)
    culture = describing.culture_of(
        _counts(asked.culture), model.spec, _images(asked.culture), excluded=asked.culture.outside_excluded
    )
    if wrong := culture.contradiction():
        raise RequestError(422, "parameters", f"culture: {wrong}")
    described = state.describer.describe(culture)
    return DescribeCultureResponse(
        text=described.text, source=described.source, model=described.model, why=described.why
    )


def _check_features(figures: CultureFigures, model: ServedModel) -> None:
    """Raise RequestError where differences are of other features than those of the model."""
    known = summary.feature_names(model.spec)
    for shift in figures.differences or []:
        if shift.figure not in known:
            raise RequestError(422, "parameters", f"differences: a figure is none of {', '.join(known)}")


def _counts(figures: CultureFigures) -> CellCountsDict:
    counts: CellCountsDict = figures.model_dump(include=set(CellCountsDict.__annotations__))  # type: ignore[assignment]
    return counts


def _images(figures: CultureFigures) -> Images:
    shifts = figures.differences
    return Images(
        None if shifts is None else [(shift.figure, shift.here, shift.known) for shift in shifts],
        figures.lossy,
        figures.unusual_sizes,
        figures.followed,
    )
