"""The symmetries of an image: a cell in flow has no up and no left."""

from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """One of the symmetries of a rectangle or a square."""

    transposed: bool
    """Whether rows and columns are swapped first."""
    flipped: list[int]
    """The axes of (B, C, H, W) that are then mirrored."""

    def apply(self, images: Tensor) -> Tensor:
        """Transform (B, C, H, W) images; a transposed image is (B, C, W, H)."""
        transposed = images.transpose(2, 3) if self.transposed else images
        return transposed.flip(self.flipped) if self.flipped else transposed

    def invert(self, images: Tensor) -> Tensor:
        """Undo `apply`."""
        straight = images.flip(self.flipped) if self.flipped else images
        return straight.transpose(2, 3) if self.transposed else straight


def symmetries_of(size: tuple[int, int], stretched: bool) -> list[Symmetry]:
    """Return the eight symmetries of an image of a square `size`; the four of a rectangle else.

    What was `stretched` along one axis more than along the other is a rectangle, whatever its sides.
    """
    swaps = [False, True] if size[0] == size[1] and not stretched else [False]
    return [Symmetry(swapped, mirrored) for swapped in swaps for mirrored in ([], [2], [3], [2, 3])]


def is_stretched(canvas: tuple[int, ...], size: tuple[int, int], how: str) -> bool:
    """Return whether (H, W) pixels come to the input `size` with other proportions than they have."""
    return how == "stretch" and canvas[0] * size[1] != canvas[1] * size[0]
