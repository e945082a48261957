"""Convolutions over maps as small as their kernel, as one product of matrices.

At the end of a backbone maps are of 2x2 or 3x3 positions and 512 channels. The CPU kernels of PyTorch (oneDNN) are made
for large maps: there they take most of the time of a step, several times that of the same arithmetic as one product
(im2col, Chellapilla et al. 2006). Parameters, and what is exported, are those of `nn.Conv2d`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class SmallMapConv2d(nn.Conv2d):
    """A convolution that multiplies matrices where, on a CPU, its output has no more positions than its kernel."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (B, C, H, W) `images`."""
        height, width = (self._positions(images.shape[axis], axis - 2) for axis in (2, 3))
        small = height * width <= self.kernel_size[0] * self.kernel_size[1]
        if not small or images.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(images)
        top, left = cast("tuple[int, int]", self.padding)
        padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
        down, right = self.stride
        taps = [
            padded[:, i : i + down * height : down, j : j + right * width : right]
            for i in range(self.kernel_size[0])
            for j in range(self.kernel_size[1])
        ]
        # Channels come last in the weights too, so that this is a view of them.
        weights = self.weight.permute(0, 2, 3, 1).flatten(1)
        found = functional.linear(torch.cat(taps, dim=-1), weights, self.bias)
        return found.permute(0, 3, 1, 2)

    def _positions(self, size: int, axis: int) -> int:
        padding = cast("tuple[int, int]", self.padding)[axis]
        return (size + 2 * padding - self.kernel_size[axis]) // self.stride[axis] + 1


def speed_up(module: nn.Module) -> None:
    """Let the convolutions of `module` that may meet small maps be `SmallMapConv2d`, with the parameters they have."""
    for each in module.modules():
        plain = (
            type(each) is nn.Conv2d and each.groups == 1 and each.padding_mode == "zeros" and each.dilation == (1, 1)
        )
        if plain and each.kernel_size != (1, 1) and not isinstance(each.padding, str):
            # The class alone differs: no parameter moves, and names in state dicts stay.
            each.__class__ = SmallMapConv2d
