"""Convolutions that a CPU trains faster: on feature maps as small as their kernel, and depthwise ones.

At the end of a backbone, feature maps have 2x2 or 3x3 positions and 512 channels. The CPU kernels of PyTorch (oneDNN)
are made for large maps: on these they take most of the time of a training step, several times as long as the same
arithmetic in one product (im2col, Chellapilla et al. 2006). The backward pass of depthwise convolutions in bfloat16
takes ten times as long as in float32, and most of the time of MobileNets. Parameters and exported graph are those of
`nn.Conv2d`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is one matrix product where, on a CPU, its output has no more positions than its kernel."""

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
        # A view, because the weights are channels-last too.
        weights = self.weight.permute(0, 2, 3, 1).flatten(1)
        products = functional.linear(torch.cat(taps, dim=-1), weights, self.bias)
        return products.permute(0, 3, 1, 2)

    def _positions(self, size: int, axis: int) -> int:
        padding = cast("tuple[int, int]", self.padding)[axis]
        return (size + 2 * padding - self.kernel_size[axis]) // self.stride[axis] + 1


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself that a CPU computes in float32 where it needs gradients."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (B, C, H, W) `images`."""
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        if not trains or images.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            return super().forward(images.float())


def speed_up(module: nn.Module) -> None:
    """Turn convolutions of `module` into `SmallMapConv2d` and `DepthwiseConv2d` where these fit; parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and layer.groups == layer.in_channels > 1:
            layer.__class__ = DepthwiseConv2d
        if type(layer) is not nn.Conv2d or layer.kernel_size == (1, 1) or isinstance(layer.padding, str):
            continue
        if layer.groups == 1 and layer.padding_mode == "zeros" and layer.dilation == (1, 1):
            # Only the class changes, so that parameters and their names in state dicts stay.
            layer.__class__ = SmallMapConv2d
