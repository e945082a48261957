"""What a backbone is taught without labels: that two views of a cell are alike, and different cells are not."""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.2
"""Of SimCLR: lower values push the nearest cells further apart."""


def simclr(one: Tensor, other: Tensor) -> Tensor:
    """Return the cross entropy of finding a cell's other view among all views of the batch (Chen et al. 2020).

    `one` and `other` are (B, D) projections of the two views.
    """
    views = functional.normalize(torch.cat([one, other]), dim=1)
    similarities = views @ views.T / TEMPERATURE
    similarities.fill_diagonal_(-torch.inf)
    partners = torch.arange(len(views), device=views.device).roll(len(one))
    return functional.cross_entropy(similarities, partners)


def vicreg(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of variance, invariance and covariance terms, weighted as published (VICReg, Bardes et al. 2022).

    `one` and `other` are (B, D) projections of the two views.
    """
    invariance = functional.mse_loss(one, other)
    variance = covariance = torch.zeros((), device=one.device)
    for views in (one, other):
        centred = views - views.mean(0)
        table = centred.T @ centred / (len(views) - 1)
        spread = (table.diagonal() + 1e-4).sqrt()
        variance = variance + functional.relu(1 - spread).mean() / 2
        off_diagonal = (table**2).sum() - (table.diagonal() ** 2).sum()
        covariance = covariance + off_diagonal / views.shape[1]
    return 25 * invariance + 25 * variance + covariance


OBJECTIVES = {"simclr": simclr, "vicreg": vicreg}
"""`pretrain.method` → its loss."""
