"""Which cells are not unseen, because the weights with which a model began were trained on them."""

import numpy as np
import numpy.typing as npt

from fatescope.data.dataset import CellDataset
from fatescope.data.tracks import Tracks

Indices = npt.NDArray[np.int64]


def leave_out(rows: Indices, source: CellDataset, known: npt.NDArray[np.int64], tracks: Tracks | None) -> Indices:
    """Return those of the `rows` of `source` whose pixel hashes are not `known`, nor those of an image of their track.

    `tracks` are those of all cells; None where each image is of another.
    """
    if not len(known) or not len(rows):
        return rows
    seen = np.isin(source.take(rows, ["pixel_hash"])["pixel_hash"].to_numpy(), known)
    if tracks is not None:
        seen |= np.isin(tracks.keys[rows], tracks.keys[rows[seen]])
    unseen: Indices = rows[~seen]
    return unseen
