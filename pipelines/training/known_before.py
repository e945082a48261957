"""What weights with which networks begin have learned from already (`train.weights` of a bundle).

A cell that they were trained on is not unseen, though the split has it among the test cells: those of a bundle of
another split, or of another task on the same cells. The bundle has the hashes of its cells beside its weights; they are
passed on to what begins with these, and no such cell is tested.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from fatescope.config import Train
from fatescope.errors import ParamsError
from fatescope.inference.bundle import SEEN
from pipelines.evaluation.known_before import leave_out
from pipelines.training.context import TrainingContext

log = logging.getLogger(__name__)

Hashes = npt.NDArray[np.int64]


def hashes_known_before(weights: Iterable[str]) -> Hashes:
    """Return the pixel hashes of the cells that some `weights` (`train.weights`) were trained on, ascending.

    None are known of weights that have no bundle around them.
    """
    files = {Path(name).with_name(SEEN) for name in weights if name.endswith(".safetensors")}
    known = [load_file(file)["cells"] for file in sorted(files) if file.is_file()]
    return np.unique(np.concatenate(known)) if known else np.empty(0, np.int64)


def check_known_before(context: TrainingContext, settings: Iterable[Train]) -> None:
    """Warn where weights that networks begin with have learned from the cells that calibrate them.

    Raises ParamsError where they leave some class without a test cell, under any scheme.
    """
    before = hashes_known_before(member.weights for member in settings)
    if not len(before):
        return
    for scheme in context.schemes:
        for side in ("test", "train", "validation"):
            rows = context.splits.indices(scheme, side, context.classes)
            unseen = leave_out(rows, context.cells, before, context.tracks)
            if len(unseen) == len(rows):
                continue
            if side != "test":
                log.warning(
                    "train.weights: they were trained on %d of the %d %s cells of the scheme %s, so that the model is "
                    "calibrated on cells it knows, and is surer of new ones than it should be; begin with weights of "
                    "other cells",
                    *(len(rows) - len(unseen), len(rows), side, scheme),
                )
                continue
            left = set(context.cells.take(unseen, ["label"])["label"])
            if lost := sorted(set(context.classes) - left):
                raise ParamsError(
                    f"train.weights: they were trained on all test cells of {lost} (scheme {scheme}), so that nothing "
                    "could test the model; begin with weights of other cells, or keep split.seed as it was for them"
                )
            log.warning(
                "train.weights: they were trained on %d of the %d test cells of the scheme %s, which are not tested",
                *(len(rows) - len(unseen), len(rows), scheme),
            )
