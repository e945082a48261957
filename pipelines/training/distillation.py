"""Teach a small network what a larger model, or several together, say of cells (distillation, Hinton et al. 2015).

Teacher and student look at the same augmented view of a cell, a new one in each epoch, and the student takes more
epochs than a network that learns from labels alone: a "patient and consistent" teacher (Beyer et al. 2022). A teacher
has been trained on the same cells as its student and on no others, so that predictions of cells that are held out
remain predictions of unseen cells.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config import Train
from fatescope.networks.network import Ensemble, Network
from pipelines.training.loss import weighted_cross_entropy

Teacher = Network | Ensemble

BACKBONE = "compact"
"""The backbone of students."""
STUDENT = {"backbone": BACKBONE, "weights": "none", "batch_size": 32, "learning_rate": 1e-2}
"""What students of other networks are trained with; those of a large network would be too low and too few steps."""
KEPT = 0.98
"""Share of the balanced accuracy of the best candidate that a distilled one must keep to be served."""
PATIENCE = 2
"""Epochs of a student for each of its teacher's."""
ALIKE = 0.03
"""Share by which a teacher may see a cell larger or smaller by way of its student's input: a pixel of rounding."""
TEMPERATURE = 2.0
"""Divisor of the logits that are compared: how teachers tell the less likely classes apart counts more (Hinton)."""
LABEL_SHARE = 0.5
"""Weight of the labels in the loss; the rest is the teacher's, who is also wrong."""


def student_settings(teacher: list[Train], canvas: tuple[int, int]) -> Train | None:
    """Return the settings of the student of networks with the settings `teacher`; None where there is nothing to teach.

    They are those of the compact network among them, where there is one. It takes the smallest input of theirs from
    which their views of cells on a `canvas` (height, width) follow. All of it is trained, also where they keep a
    backbone (`freeze`), and what they learned of groups they teach. Networks that are normalised or resized in
    different ways have no views in common, and a single compact network needs no student.
    """
    common = [
        member for member in teacher if all(_sees_alike(member.input_size, other, canvas, member) for other in teacher)
    ]
    if not common:
        return None
    smallest = min(common, key=lambda member: member.input_size[0] * member.input_size[1])
    if len(teacher) == 1 and smallest.backbone == BACKBONE:
        return None
    own = next((member for member in teacher if member.backbone == BACKBONE), smallest.model_copy(update=STUDENT))
    epochs = {"epochs": PATIENCE * smallest.epochs, "patience": PATIENCE * smallest.patience}
    whole = {"freeze": False, "groups": "pooled"}
    return own.model_copy(update={"input_size": smallest.input_size, "distil": True, **whole, **epochs})


def _sees_alike(size: tuple[int, int], other: Train, canvas: tuple[int, int], student: Train) -> bool:
    """Return whether a cell on a `canvas` is as large for `other` by way of the student's input `size` as without it.

    Padding of an input of other proportions would be taken for a part of the cell's canvas, and make the cell small.
    """
    if (student.normalisation, student.resize) != (other.normalisation, other.resize):
        return False
    by_way = _scale(canvas, size) * _scale(size, other.input_size)
    return student.resize == "stretch" or math.isclose(by_way, _scale(canvas, other.input_size), rel_tol=ALIKE)


def _scale(size: tuple[int, int], target: tuple[int, int]) -> float:
    return min(target[0] / size[0], target[1] / size[1])


@torch.no_grad()
def teach(teacher: Teacher, images: Tensor) -> Tensor:
    """Return the (B, K) logits of `teacher` for (B, C, H, W) preprocessed and augmented `images` of its student."""
    return teacher.forward_preprocessed(images).logits.float()


def distillation_loss(
    logits: Tensor, taught: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Return the loss of (B, K) `logits` whose teacher's are `taught`, a scalar.

    The Kullback-Leibler divergence from the teacher at TEMPERATURE, scaled to gradients of the size that it has without
    one, and LABEL_SHARE of the cross-entropy for (B,) classes `targets` (`loss.weighted_cross_entropy`). Cells count by
    the (K,) `weights` of their classes in both.
    """
    known, own = (functional.log_softmax(x / TEMPERATURE, dim=1) for x in (taught, logits))
    divergence = TEMPERATURE**2 * (known.exp() * (known - own)).sum(1)
    counts = torch.ones_like(divergence) if weights is None else weights[targets]
    of_teacher = (divergence * counts).sum() / counts.sum()
    of_labels = weighted_cross_entropy(logits, targets, weights, smoothing)
    return LABEL_SHARE * of_labels + (1 - LABEL_SHARE) * of_teacher
