"""A trained model on disk: one folder that is all serving needs.

| file | what it holds |
|---|---|
| `model.onnx` | raw pixels (B, 1, H, W) float32 on the canvas → `logits`, `embedding`, `activation_map` |
| `weights.safetensors` | the weights of the network, to go on training from |
| `spec.json` | what the model is, what it expects, what it was made from, and the hash of every other file |
| `outliers.safetensors` | where its training cells lie in the space of embeddings (`fatescope.inference.ood`) |
| `reference.parquet` | cells that it knows: figures, embedding and predictions, to tell drift by |
| `seen.safetensors` | `cells`: the pixel hash of each cell that it was fitted on, ascending |
| `test.safetensors` | `pixels` and the `logits` that they must give |

Formats are open ones; nothing here is a pickle. Reading needs neither PyTorch nor `params.yaml`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from fatescope.errors import BundleError

FORMAT = 2
GRAPH, WEIGHTS, SPEC, TEST = "model.onnx", "weights.safetensors", "spec.json", "test.safetensors"
OUTLIERS, REFERENCE, SEEN = "outliers.safetensors", "reference.parquet", "seen.safetensors"
OPSET = 20
"""The newest ONNX operators that this version runs; what it exports has these."""


class Spec(BaseModel):
    """What a bundle says of itself; `spec.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    format: int
    """Version of this layout."""
    opset: int
    """Version of the ONNX operators in the graph."""
    task: str
    """The question: a name in `dataset.tasks`."""
    classes: list[str]
    """Class names in the order of the logits."""
    canvas: tuple[int, int]
    """Height and width in px that a cell is centred on."""
    bit_depths: list[int]
    """Bit depths of the cells it was trained on."""
    height_px: tuple[int, int]
    """Smallest and largest native height of the cells it was trained on."""
    width_px: tuple[int, int]
    """Smallest and largest native width of the cells it was trained on."""
    channel: str | None
    """The input channel of the export."""
    backbone: str
    """The CNN, or those of an ensemble joined by ` + `."""
    join: str | None
    """How the members of an ensemble are joined."""
    seed: int
    """Seed of the fit."""
    temperature: float
    """What the logits are already divided by."""
    coverage: float
    """Share of the cells of a class whose conformal set holds it, on validation cells."""
    conformal: list[float]
    """(K,) a class belongs to the conformal set where its probability is at least this."""
    false_alarm: float
    """Share of like cells that are called unlike, on validation cells."""
    outlier_threshold: float
    """Distance above which a cell is unlike the training cells."""
    prior: list[float]
    """(K,) the shares of classes that the probabilities take for granted."""
    composition_error: list[list[float]]
    """(K, K) covariance of the shares of a culture that more cells do not make smaller."""
    cost: dict[str, float]
    """`parameters`, `multiply_adds` a cell, `fit_seconds` on the machine that made it and, where it could be
    measured, `energy_wh`."""
    split: str
    """The split whose training and validation parts it has seen."""
    confounded: dict[str, str]
    """Class → why it could not be tested on acquisition groups it has not seen."""
    simulated: bool
    """Whether any cell it was trained on is simulated."""
    data_hash: str
    """The version of the data."""
    made: str | None = None
    """When it was trained, ISO 8601 in UTC; None in bundles of before this was kept."""
    git_commit: str
    """The version of the code; empty outside git."""
    params: dict[str, Any]
    """The sections of `params.yaml` that made it."""
    hashes: dict[str, str]
    """File name → SHA-256 of its bytes."""


def finalize(folder: Path, spec: Spec) -> None:
    """Write `spec` with the hashes of all other files in `folder`, which completes the bundle."""
    # safetensors makes files that their owner alone may read; a bundle is copied and mounted for others to run.
    for path in folder.iterdir():
        path.chmod((folder / GRAPH).stat().st_mode)
    hashes = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != SPEC}
    (folder / SPEC).write_text(spec.model_copy(update={"hashes": hashes}).model_dump_json(indent=2) + "\n")


def open_spec(folder: Path) -> Spec:
    """Read the spec of a bundle that is whole.

    Raises BundleError for a folder that is no bundle, of a newer format, or with a file missing or changed.
    """
    spec = read_spec(folder)
    if spec.opset > OPSET:
        raise BundleError(f"{folder}: ONNX opset {spec.opset}, but this version runs up to {OPSET}; update fatescope")
    for name, expected in spec.hashes.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: {name} is missing; fetch the bundle again")
        if _sha256(path) != expected:
            raise BundleError(f"{folder}: {name} was changed or damaged after it was made; fetch the bundle again")
    return spec


def read_spec(folder: Path) -> Spec:
    """Read `spec.json`; raises BundleError where there is none that this version understands."""
    try:
        text = (folder / SPEC).read_text()
    except OSError as error:
        raise BundleError(f"{folder}: not a bundle ({error}); make one with `dvc repro train`") from error
    try:
        announced = json.loads(text)["format"]
        if announced > FORMAT:
            raise BundleError(f"{folder}: format {announced}, but this version reads {FORMAT}; update fatescope")
        if announced < FORMAT:
            raise BundleError(f"{folder}: format {announced}, but this version reads {FORMAT}; run `dvc repro train`")
        return Spec.model_validate_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / SPEC}: damaged ({error}); fetch the bundle again") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
