"""What the stage `pretrain` writes, and how `train.weights: pretrained` finds it.

`backbone.safetensors`: the weights of the backbone, as `weights.safetensors` of a bundle has them; only where
`pretrain.method` is not `none`. `report.json`: the fields of `PretrainingReport`.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from fatescope.config import Params
from fatescope.errors import DataError, ParamsError
from pipelines.evaluation.report import Report

BACKBONE, REPORT = "backbone.safetensors", "report.json"
PRETRAINED = "pretrained"
"""`train.weights` for the result of this stage."""

PretrainedFolder = Annotated[Path | None, typer.Option("--pretrained", help="Folder that the stage pretrain wrote.")]


class PretrainingReport(Report):
    """What a backbone was taught on."""

    method: str
    """`pretrain.method`."""
    backbone: str | None = None
    """`train.backbone`; null without pretraining, as all that follows is null or 0."""
    stem: str = "standard"
    """`train.stem`."""
    input_size: tuple[int, int] | None = None
    """Height and width in px of the images that it saw."""
    normalisation: str | None = None
    """How they were normalised."""
    cells: int = 0
    """Cells of the store that it learned from."""
    tested: int = 0
    """Cells of the store that were left out, because a scheme tests on them."""
    feedback: int = 0
    """Feedback images that it learned from."""
    feedback_tested: int = 0
    """Feedback images left out because a test cell has the same pixels, or because they are of its group or track."""
    feedback_known: int = 0
    """Feedback images left out because a cell that it learned from has the same pixels."""
    feedback_refused: dict[str, str] = Field(default_factory=dict)
    """Folder of a feedback image that cannot be read → why."""
    epochs: int = 0
    """Passes over the cells."""
    losses: list[float] = Field(default_factory=list)
    """Mean loss of each epoch."""
    seconds: float = 0.0
    """How long it took."""
    shortened: bool = False
    """Whether it took fewer steps than planned, because `pretrain.minutes` were over."""


def with_pretrained(params: Params, folder: Path | None) -> Params:
    """Return `params` with the path of the pretrained weights in `folder` where `train.weights` asks for them.

    Raises ParamsError where there are none, or those of another backbone or of a smaller stem.
    """
    if params.train.weights != PRETRAINED:
        return params
    if folder is None:
        raise ParamsError("train.weights: pretrained needs the folder that the stage pretrain wrote (--pretrained)")
    try:
        report = PretrainingReport.read(folder / REPORT)
    except DataError as error:
        raise ParamsError(f"train.weights: pretrained needs what the stage pretrain writes: {error}") from error
    if report.method == "none":
        raise ParamsError(
            "train.weights: pretrained, but pretrain.method is none, so that there are no such weights; set it to "
            "simclr or vicreg, or train.weights to none"
        )
    wanted = params.tune.space.get("backbone") if params.tune.trials else None
    backbones = {params.train.backbone, *(wanted if isinstance(wanted, list) else ())}
    if others := sorted(str(name) for name in backbones - {report.backbone}):
        raise ParamsError(
            f"train.weights: pretrained are those of {report.backbone}, but train or tune.space have {others} too; "
            "leave one backbone, and run `dvc repro`"
        )
    stems = params.tune.space.get("stem", [params.train.stem]) if params.tune.trials else [params.train.stem]
    if report.stem == "small" and isinstance(stems, list) and "standard" in stems:
        raise ParamsError(
            "train.weights: pretrained are those of the stem small, which lacks the last stage of standard; set "
            "train.stem to standard, whose weights suit both, and run `dvc repro`"
        )
    train = params.train.changed({"weights": str(folder / BACKBONE)})
    return params.model_copy(update={"train": train})


def hash_of(params: Params) -> dict[str, str]:
    """Return the hash of the pretrained weights that `with_pretrained` has put into `params`; empty without."""
    path = Path(params.train.weights)
    if path.name != BACKBONE:
        return {}
    return {"pretrained_hash": hashlib.sha256(path.read_bytes()).hexdigest()}
