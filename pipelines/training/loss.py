"""The loss of a batch, by operations whose results have known shapes, so that a CUDA graph can hold them."""

import torch
from torch import Tensor
from torch.nn import functional


def cell_losses(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Return the (B,) cross-entropies of cells, multiplied by the (K,) `weights` of their classes."""
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return losses if weights is None else losses * weights[targets]


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Return the mean cross-entropy of (B, K) logits for (B,) classes, a scalar; `weights` are (K,).

    With `smoothing`, a share of each label is spread evenly over all classes (Szegedy et al. 2016). It is what
    `functional.cross_entropy` returns for labels of which none is to be ignored; with weights and smoothing that one
    picks the labels that count (before PyTorch 2.14 at the latest), and no graph can hold the wait for their number.
    """
    if weights is None or not smoothing:
        return functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    logs = torch.log_softmax(logits, dim=1)
    exact = -logs.gather(1, targets[:, None])[:, 0] * weights[targets]
    spread = -(logs * weights).mean(dim=1)
    return ((1 - smoothing) * exact + smoothing * spread).sum() / weights[targets].sum()
