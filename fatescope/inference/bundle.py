"""A trained model that is ready to predict, loaded from a folder that `fatescope.inference.spec` describes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from fatescope.errors import BundleError, DataError
from fatescope.inference import classification, composition
from fatescope.inference.classification import Classification
from fatescope.inference.composition import Composition
from fatescope.inference.graph import OUTPUTS, Graph
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.reference import COMPONENTS, build_reference, exclude_seen, known_before
from fatescope.inference.spec import (
    FORMAT,
    GRAPH,
    KNOWN_BEFORE,
    OPSET,
    OUTLIERS,
    REFERENCE,
    SEEN,
    SPEC,
    TEST,
    WEIGHTS,
    Spec,
    finalize,
    open_spec,
    read_spec,
)
from fatescope.inference.uncertainty import Assessment, Prediction, assess_prediction, ood_distance

__all__ = [
    "COMPONENTS",
    "FORMAT",
    "GRAPH",
    "KNOWN_BEFORE",
    "OPSET",
    "OUTLIERS",
    "OUTPUTS",
    "REFERENCE",
    "SEEN",
    "SPEC",
    "TEST",
    "TOLERANCE",
    "WEIGHTS",
    "Bundle",
    "Engine",
    "Graph",
    "Spec",
    "build_reference",
    "compose",
    "exclude_seen",
    "finalize",
    "known_before",
    "load",
    "open_spec",
    "read_spec",
]

TOLERANCE = 1e-3
"""The largest difference of a logit from its test tensor on another machine."""

BATCH = 128
"""Cells that `Bundle.classify` runs through the network at once."""

Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """What can run the network of a bundle: ONNX Runtime, OpenVINO, PyTorch."""

    def predict(self, pixels: npt.NDArray[np.uint16], *, maps: bool = True) -> Prediction:
        """Run the network on (B, C, H, W) raw pixels on the canvas; those of one channel may be (B, H, W).

        Without `maps`, the activation maps are left out.
        """


class Bundle:
    """A trained model that is ready to predict, with its spec."""

    def __init__(
        self, spec: Spec, engine: Engine, outliers: MahalanobisDetector, test: dict[str, npt.NDArray[Any]]
    ) -> None:
        self.spec = spec
        self._engine = engine
        self.outliers = outliers
        self._test = test

    def predict(self, pixels: npt.NDArray[np.unsignedinteger], *, maps: bool = True) -> Prediction:
        """Run the network on (B, C, H, W) raw pixels on the canvas; for a model of one channel, (B, H, W).

        Without `maps`, the activation maps are left out; they are the largest output.
        Raises DataError for pixels of another shape.
        """
        if pixels.shape[1:] != self.spec.shape:
            expected = ", ".join(map(str, self.spec.shape))
            raise DataError(
                f"pixels of shape {pixels.shape}; the model takes (B, {expected}), "
                "and its method classify takes crops of any size"
            )
        return self._engine.predict(pixels, maps=maps)

    def classify(
        self, cells: str | Path | npt.NDArray[np.generic] | Sequence[npt.NDArray[np.generic]]
    ) -> list[Classification]:
        """Classify one cell or several: the pages of an image file, or crops (height, width) of any size.

        A model of several channels takes crops (channels, height, width), in the order of `spec.channels`.
        A crop is raw counts, uint8 or uint16; what reaches beyond the canvas of the model is cut off.
        Raises ImageError for a file or a crop that cannot be used, with the reason.
        """
        if isinstance(cells, str | Path):
            crops: Sequence[npt.NDArray[np.generic]] = classification.read_crops(Path(cells), self.spec)
        elif isinstance(cells, np.ndarray):
            crops = [cells] if cells.ndim == len(self.spec.shape) else list(cells)
        else:
            crops = cells
        results: list[Classification] = []
        for start in range(0, len(crops), BATCH):
            pixels = classification.place(crops[start : start + BATCH], self.spec)
            assessment = self.assess(self.predict(pixels, maps=False))
            results += classification.from_assessment(assessment, self.spec)
        return results

    def with_engine(self, engine: Engine) -> "Bundle":
        """Return the same model, run by `engine`."""
        return Bundle(self.spec, engine, self.outliers, self._test)

    def assess(self, prediction: Prediction) -> Assessment:
        """Return conformal sets, distances and verdicts for a prediction of this model."""
        return assess_prediction(prediction, self.spec.conformal, self.spec.outlier_threshold, self.outliers)

    def ood_distance(self, prediction: Prediction) -> Floats:
        """Return (B,) distances from the training cells; see Assessment."""
        return ood_distance(prediction, self.spec.outlier_threshold, self.outliers)

    def components(self, prediction: Prediction) -> Floats:
        """Return the (B, COMPONENTS) coordinates of the embedding from which drift is measured."""
        return self.outliers.components(prediction.embedding, COMPONENTS)

    def compose(self, probabilities: Floats) -> Composition:
        """Estimate the class shares of a culture whose cells have (B, K) `probabilities`."""
        return compose(probabilities, self.spec)

    @property
    def example(self) -> npt.NDArray[np.uint16]:
        """Return the (B, *spec.shape) pixels of the test tensors, real input of this model."""
        return self._test["pixels"]

    @property
    def expected(self) -> Floats:
        """Return the (B, K) logits that `example` must give."""
        return self._test["logits"]

    def check(self) -> None:
        """Raise BundleError unless the test pixels give the logits that they gave where the model was trained."""
        difference = float(np.abs(self.predict(self.example).logits - self.expected).max())
        # Written so that NaN fails.
        if not difference <= TOLERANCE:
            raise BundleError(
                f"the test tensors do not reproduce: logits differ by {difference:.2g}, more than {TOLERANCE}; "
                "do not use this model here"
            )


def compose(probabilities: Floats, spec: Spec) -> Composition:
    """Estimate the class shares of a culture from the (B, K) `probabilities` of the model of `spec`."""
    return composition.estimate(probabilities, np.array(spec.prior), np.array(spec.composition_error))


def load(folder: Path, threads: int) -> Bundle:
    """Load the bundle in `folder` to run on `threads` CPU threads, 0 for all cores.

    Raises BundleError as `open_spec` does.
    """
    spec = open_spec(folder)
    return Bundle(
        spec, Graph(folder / GRAPH, threads), MahalanobisDetector.load(folder / OUTLIERS), load_file(folder / TEST)
    )
