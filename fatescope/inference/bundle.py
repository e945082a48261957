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
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file

from fatescope.data.features import ACQUISITION
from fatescope.errors import BundleError
from fatescope.inference import composition
from fatescope.inference.composition import Composition
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.uncertainty import Assessment, Prediction, assess_prediction, ood_distance

FORMAT = 2
GRAPH, WEIGHTS, SPEC, TEST = "model.onnx", "weights.safetensors", "spec.json", "test.safetensors"
OUTLIERS, REFERENCE, SEEN = "outliers.safetensors", "reference.parquet", "seen.safetensors"
OUTPUTS = ("logits", "embedding", "activation_map")
"""What the graph gives, in the order of a Prediction."""
COMPONENTS = 8
"""Coordinates of the embedding that drift is told by."""
OPSET = 20
"""The newest ONNX operators that this version runs; what it exports has these."""
TOLERANCE = 1e-3
"""The largest difference of a logit that a test tensor may show on another machine."""

Floats = npt.NDArray[np.float32]


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


class Graph:
    """An ONNX graph in ONNX Runtime; may be called from several threads at once."""

    def __init__(self, path: Path, threads: int, provider: str = "CPUExecutionProvider") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: its warnings speak of graph optimisation
        self._session = onnxruntime.InferenceSession(path, options, providers=[provider])
        # ONNX Runtime goes on without a provider that it cannot load.
        if self._session.get_providers()[0] != provider:
            raise BundleError(f"{path}: ONNX Runtime cannot run it by {provider} here")

    def predict(self, pixels: npt.NDArray[np.uint16]) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        images = pixels[:, None].astype(np.float32)
        return Prediction(*self._session.run(list(OUTPUTS), {"pixels": images}))


class Engine(Protocol):
    """Whatever runs the network of a bundle."""

    def predict(self, pixels: npt.NDArray[np.uint16]) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""


class Bundle:
    """A model that is ready to predict, and what it says of itself."""

    def __init__(
        self, spec: Spec, graph: Engine, outliers: MahalanobisDetector, test: dict[str, npt.NDArray[Any]]
    ) -> None:
        self.spec = spec
        self._graph = graph
        self.outliers = outliers
        self._test = test

    def predict(self, pixels: npt.NDArray[np.uint16]) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        return self._graph.predict(pixels)

    def with_engine(self, engine: Engine) -> "Bundle":
        """Return the same model, run by `engine`."""
        return Bundle(self.spec, engine, self.outliers, self._test)

    def assess(self, prediction: Prediction) -> Assessment:
        """Say how far to trust a prediction of this model."""
        return assess_prediction(prediction, self.spec.conformal, self.spec.outlier_threshold, self.outliers)

    def ood_distance(self, prediction: Prediction) -> Floats:
        """Return how far each of B cells lies from the training cells; see Judgement."""
        return ood_distance(prediction, self.spec.outlier_threshold, self.outliers)

    def components(self, prediction: Prediction) -> Floats:
        """Return the (B, COMPONENTS) coordinates of the embedding that drift is told by."""
        return self.outliers.components(prediction.embedding, COMPONENTS)

    def compose(self, probabilities: Floats) -> Composition:
        """Estimate the shares of the classes in a culture whose cells have (B, K) `probabilities`."""
        return compose(probabilities, self.spec)

    @property
    def example(self) -> npt.NDArray[np.uint16]:
        """Return the pixels (B, H, W) of the test tensors: real input, of the right kind."""
        return self._test["pixels"]

    @property
    def expected(self) -> Floats:
        """Return the (B, K) logits that the example must give."""
        return self._test["logits"]

    def check(self) -> None:
        """Raise BundleError unless the test pixels give the logits that they gave where the model was made."""
        difference = float(np.abs(self.predict(self.example).logits - self.expected).max())
        # Written so that a NaN fails.
        if not difference <= TOLERANCE:
            raise BundleError(
                f"the test tensors do not reproduce: logits differ by {difference:.2g}, more than {TOLERANCE}; "
                "do not use this model here"
            )


def compose(probabilities: Floats, spec: Spec) -> Composition:
    """Estimate the shares of the classes in a culture of which the model of `spec` says (B, K) `probabilities`."""
    return composition.estimate(probabilities, np.array(spec.prior), np.array(spec.composition_error))


def build_reference(
    manifest: pd.DataFrame, predictions: list[Prediction], spec: Spec, outliers: MahalanobisDetector, *, seen: int = 0
) -> pd.DataFrame:
    """Return the reference: a row a cell of `manifest`, of which the model says `predictions`.

    Columns: `label`, `group`, `height`, `width`, the figures of `features.ACQUISITION`, `e0` and on (the embedding
    along its strongest directions), `p_CLASS`, `distance`, `verdict`, and `seen`: the model was fitted on the last
    `seen` cells, and is surer of them than of others.
    """
    known = manifest[["label", "group", "height", "width", *ACQUISITION]].reset_index(drop=True)
    judged = [assess_prediction(each, spec.conformal, spec.outlier_threshold, outliers) for each in predictions]
    along = np.concatenate([outliers.components(each.embedding, COMPONENTS) for each in predictions])
    probabilities = np.concatenate([each.probabilities for each in judged])
    return known.assign(
        **{f"e{i}": along[:, i] for i in range(along.shape[1])},
        **{f"p_{name}": probabilities[:, i] for i, name in enumerate(spec.classes)},
        distance=np.concatenate([each.distance for each in judged]),
        seen=np.arange(len(known)) >= len(known) - seen,
        verdict=np.concatenate([each.verdicts for each in judged]),
    )


def exclude_seen(folder: Path, pixel_hashes: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Tell of each cell, by its pixel hash, whether the model in `folder` was fitted without it."""
    return ~np.isin(pixel_hashes, load_file(folder / SEEN)["cells"])


def finalize(folder: Path, spec: Spec) -> None:
    """Write `spec` with the hashes of all other files in `folder`, which completes the bundle."""
    # safetensors makes files that their owner alone may read; a bundle is copied and mounted for others to run.
    for path in folder.iterdir():
        path.chmod((folder / GRAPH).stat().st_mode)
    hashes = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != SPEC}
    (folder / SPEC).write_text(spec.model_copy(update={"hashes": hashes}).model_dump_json(indent=2) + "\n")


def load(folder: Path, threads: int) -> Bundle:
    """Load the bundle in `folder` to run on `threads` CPU threads; raises BundleError as `open_spec` does."""
    spec = open_spec(folder)
    return Bundle(
        spec, Graph(folder / GRAPH, threads), MahalanobisDetector.load(folder / OUTLIERS), load_file(folder / TEST)
    )


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
