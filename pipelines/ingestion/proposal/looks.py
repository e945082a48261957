"""A look at the cells of an export: sizes, depths, what is refused, and what will fail later."""

from collections import Counter

import numpy as np

from fatescope import plural
from fatescope.config import Params
from fatescope.data import features
from fatescope.data.native.reader import BIT_DEPTH
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.proposal import pixels
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.native import NativeLook
from pipelines.ingestion.proposal.pixels import ChannelLook, Sizes
from pipelines.ingestion.proposal.section import Counts

CROPS = 200
"""Images of which the pixels are looked at."""


def look_at_sizes(export: Export, counts: Counts, look: NativeLook, max_pixels: int) -> Sizes:
    """Return sizes of the cells; raises DataError where most of them cannot be read."""
    if counts.inputs:
        chosen = counts.inputs
        if len(chosen) > pixels.MAX_HEADERS:
            chosen = [chosen[i] for i in pixels.spread(len(chosen), pixels.MAX_HEADERS)]
        export.fetch(chosen)
    sizes = pixels.read_sizes(export.folder, counts.inputs, max_pixels)
    for height, width in zip(look.sizes.heights, look.sizes.widths, strict=True):
        sizes.add(height, width, BIT_DEPTH)
    sizes.complete = sizes.complete and not look.sizes.heights
    sizes.refused += look.sizes.refused
    if len(sizes.refused) > len(sizes.heights):
        images = plural.count(len(sizes.refused) + len(sizes.heights), "image that was", "images that were")
        raise DataError(
            f"{export.name}: {len(sizes.refused)} of {images} looked at cannot be used: {reasons(sizes.refused)}"
        )
    return sizes


def reasons(refused: list[ImageError]) -> str:
    """Return how many images are refused for which reasons, with an example of each."""
    codes = Counter(error.code for error in refused)
    first = {error.code: str(error) for error in reversed(refused)}
    return "; ".join(f"{count} such as {first[code]}" for code, count in codes.most_common(3))


def look_at_crops(export: Export, counts: Counts, look: NativeLook, max_pixels: int) -> ChannelLook:
    """Return pixels of cells of the input channel; raises DataError where most of them cannot be read."""
    chosen = [counts.inputs[i] for i in pixels.spread(len(counts.inputs), CROPS)] if counts.inputs else []
    export.fetch(chosen)
    crops = pixels.look_at_channels(export.folder, {"": chosen}, max_pixels)[""]
    if len(crops.refused) > len(crops.crops):
        raise DataError(
            f"{export.name}: {len(crops.refused)} of {plural.count(len(chosen), 'image')} whose pixels were looked at "
            f"cannot be used: {reasons(crops.refused)}"
        )
    crops.crops += look.look.crops
    return crops


def of_depths(sizes: Sizes) -> list[str]:
    """Return what is wrong with several bit depths."""
    if len(sizes.depths) < 2:
        return []
    depths = ", ".join(f"{depth} bit: {images:,}" for depth, images in sizes.depths.most_common())
    return [f"images have several bit depths ({depths}), which the stage validate refuses: export them all alike"]


def of_quality(crops: ChannelLook, params: Params) -> list[str]:
    """Return which expectations of the stage validate will fail, by the crops that were looked at."""
    if not crops.crops:
        return []
    table = np.concatenate([features.acquisition(crop[None], depth) for crop, depth in crops.crops])
    limits, column = params.validation, features.ACQUISITION.index
    bad = {
        "saturated (validate.max_saturation)": table[:, column("saturation")] > limits.max_saturation,
        "blank (validate.min_spread)": table[:, column("spread")] < limits.min_spread,
    }
    images_are = plural.count(len(table), "image is", "images are")
    return [
        f"{np.mean(rows):.0%} of {images_are} {what}; validate refuses more than {limits.max_bad_share:.0%}"
        for what, rows in bad.items()
        if np.mean(rows) > limits.max_bad_share
    ]


def of_unmatched(counts: Counts, images: int) -> list[str]:
    """Return which images the pattern does not read."""
    left_out = len(counts.unmatched)
    example = f", such as {counts.unmatched[0]}" if left_out else ""
    are = plural.agree(left_out, "is", "are")
    of = plural.count(images, "image")
    return [f"{left_out:,} of {of} {are} named otherwise and left out{example}"] if left_out else []
