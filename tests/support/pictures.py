"""Exports as people have them, with cells that show what their channels are."""

import numpy as np

from tests.support.images import draw_cell, tiff


def brightfield(rng, height=40, width=44):
    """Return a cell that is darker than the light around it."""
    return draw_cell(rng, height, width)


def stain(rng, height=40, width=44):
    """Return a cell that is brighter than the dark around it."""
    return (4095 - draw_cell(rng, height, width, level=3900) - 150).astype(np.uint16)


def write(folder, rng, paths, channels=None):
    """Write an image to each of `paths`; `channels` has the end of a name → what draws it."""
    for path in paths:
        draw = next((draw for end, draw in (channels or {}).items() if path.lower().endswith(end)), brightfield)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(tiff(draw(rng)))
    return folder
