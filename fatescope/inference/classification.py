"""Classify crops of any size, from memory or from a file: what surrounds the network for one user with one model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.data import images
from fatescope.data.crops import Pixels, center, check_crop, cut
from fatescope.data.images import Header
from fatescope.errors import ImageError
from fatescope.inference.spec import Spec
from fatescope.inference.uncertainty import Assessment, CoarseCall, coarse_calls

MAX_PIXELS = 1_000_000
"""Largest number of pixels that the header of an image may announce."""


@dataclass(frozen=True)
class Classification:
    """The answer of a model for one cell."""

    label: str
    """The most probable class."""
    probabilities: dict[str, float]
    """Class → its calibrated probability."""
    conformal_set: list[str]
    """The classes that cannot be ruled out at the coverage of the model; the most probable one is always among them."""
    verdict: str
    """`sure`, `unsure` or `unlike_training`; see `fatescope.inference.uncertainty`."""
    distance: float
    """Distance from the training cells; above 1 the cell is unlike them."""
    coarse: CoarseCall | None = None
    """The coarse class that it is called by, where the task has such classes; see `uncertainty.coarse_calls`."""


def from_assessment(assessment: Assessment, spec: Spec) -> list[Classification]:
    """Return the answer for each of the B cells of `assessment`, made by the model of `spec`."""
    classes = spec.classes
    rows = zip(
        assessment.probabilities.argmax(1).tolist(),
        assessment.probabilities.tolist(),
        assessment.sets.tolist(),
        assessment.verdicts.tolist(),
        assessment.distance.tolist(),
        coarse_calls(assessment, classes, spec.hierarchy, spec.coarse_thresholds),
        strict=True,
    )
    return [
        Classification(
            classes[best],
            dict(zip(classes, probabilities, strict=True)),
            [name for name, included in zip(classes, members, strict=True) if included],
            verdict,
            distance,
            coarse,
        )
        for best, probabilities, members, verdict, distance, coarse in rows
    ]


def read_crops(path: Path, spec: Spec) -> list[Pixels]:
    """Return the cells of an image file, one a page.

    Raises ImageError for a file that is not such an image, of a model of several channels, whose cells are in several
    files, or where it has a bit depth that the model of `spec` does not know.
    """
    if len(spec.kinds) > 1:
        raise ImageError(
            "missing_channel",
            f"{path}: is of one channel, but the model takes {len(spec.kinds)} of a cell ({', '.join(spec.inputs)}); "
            "give arrays (channels, height, width), or use `fatescope score`",
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{path}: cannot be read: {error}") from error
    pages = images.decode(raw, str(path), MAX_PIXELS)
    for header, _ in pages:
        if header.bit_depth not in spec.bit_depths:
            raise wrong_bit_depth(header, spec, str(path))
    return [pixels for _, pixels in pages]


def wrong_bit_depth(header: Header, spec: Spec, name: str) -> ImageError:
    """Return the error for an image of another bit depth than those that the model was trained on."""
    expected = " or ".join(map(str, spec.bit_depths))
    return ImageError(
        "bit_depth",
        f"{name}: {header.bit_depth} bits per pixel, but the model was trained on {expected} bits; "
        "export with the bit depth of the camera",
    )


def place(crops: Iterable[npt.NDArray[np.generic]], spec: Spec) -> npt.NDArray[np.uint16]:
    """Return (B, *spec.shape) pixels: each crop in the middle of the canvas, padded with its background level.

    What reaches beyond the canvas is cut off. Raises ImageError for a crop that is not a grey image of unsigned
    integers for each channel of the model, or is smaller than `crops.MIN_SIDE`.
    """
    canvas = spec.canvas
    placed = []
    for position, crop in enumerate(crops):
        name = f"crop {position}"
        pixels = check_crop(crop, name, spec.shape[:-2])
        placed.append(center(cut(pixels, canvas), canvas, name))
    return np.stack(placed) if placed else np.zeros((0, *spec.shape), np.uint16)
