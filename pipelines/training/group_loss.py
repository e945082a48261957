"""The loss that weighs acquisition groups by how badly they are classified (GroupDRO, Sagawa et al. 2020).

A network of low mean loss may fail on some run. Here the groups on which it errs weigh more, step by step (their
online algorithm: exponentiated gradient ascent on the weights of the groups). Two things are changed for laboratories,
whose groups are many, small and unequal. The weights begin such that the loss is that of all cells pooled, so that a
group of three cells does not weigh as much as one of three thousand from the start. And a batch holds few groups: each
of its cells counts by the weight of its group over the chance that the cell was drawn, which makes loss and ascent
unbiased without batches in which all groups are present.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fatescope.errors import ParamsError
from pipelines.training import distributed

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class GroupLoss:
    """The weights of G groups, which change with each batch."""

    def __init__(self, groups: Indices, weights: Floats, chances: Floats, step: float, device: torch.device) -> None:
        """Begin with pooled cells.

        The n training cells belong to `groups` (n,), count by `weights` (n,) within their group, and are drawn with
        `chances` (n,) that add up to 1. `step` is that of the ascent.
        Raises ParamsError where there is one group only.
        """
        numbers, place = np.unique(groups, return_inverse=True)
        if len(numbers) < 2:
            raise ParamsError(
                "train.groups: dro weighs acquisition groups against each other, and the training cells are of one; "
                "set pooled, or dataset.group such that paths name several"
            )
        self._places = np.full(numbers.max() + 1, -1, np.int64)
        self._places[numbers] = np.arange(len(numbers))
        mass = np.bincount(place, chances * weights)
        self.weights = torch.from_numpy(mass / mass.sum()).float().to(device)
        """(G,) they add up to 1."""
        self._mass, self._step = torch.from_numpy(mass).float().to(device), step
        self._numbers = torch.arange(len(numbers), device=device)

    def places(self, groups: Indices) -> Indices:
        """Return which of the G groups each of (B,) training cells belongs to."""
        places: Indices = self._places[groups]
        return places

    def __call__(self, losses: Tensor, places: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar, given the (B,) `losses` of its cells, weighted within their groups.

        The weights of the groups rise first, in place, so that a CUDA graph can hold it.
        """
        # A product of a fixed shape and order of summation, whatever groups there happen to be.
        member = (places[:, None] == self._numbers).float() / len(losses)
        of_groups = losses @ member / self._mass
        # By their logarithms, so that no step is too large to be a number.
        risen = self.weights.log() + self._step * distributed.mean(of_groups.detach())
        self.weights.copy_(torch.softmax(risen, dim=0))
        return of_groups @ self.weights
