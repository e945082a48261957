"""The symmetries of an image: a cell in flow has no preferred orientation."""

from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """One symmetry of a rectangle or a square."""

    transposed: bool
    """Whether rows and columns are swapped first."""
    flipped: list[int]
    """The axes of (B, C, H, W) that are then flipped."""

    def apply(self, images: Tensor) -> Tensor:
        """Transform (B, C, H, W) images; a transposed image is (B, C, W, H)."""
        transposed = images.transpose(2, 3) if self.transposed else images
        return transposed.flip(self.flipped) if self.flipped else transposed

    def invert(self, images: Tensor) -> Tensor:
        """Undo `apply`."""
        straight = images.flip(self.flipped) if self.flipped else images
        return straight.transpose(2, 3) if self.transposed else straight


def symmetries_of(size: tuple[int, int], stretched: bool) -> list[Symmetry]:
    """Return the eight symmetries of a square image, or the four of a rectangle.

    An image that was `stretched` more along one axis than along the other counts as a rectangle, whatever its `size`.
    """
    transpositions = [False, True] if size[0] == size[1] and not stretched else [False]
    return [Symmetry(transposed, flipped) for transposed in transpositions for flipped in ([], [2], [3], [2, 3])]


def is_stretched(canvas: tuple[int, ...], size: tuple[int, int], how: str) -> bool:
    """Return whether resizing a `canvas` to the input `size` changes its aspect ratio."""
    return how == "stretch" and canvas[0] * size[1] != canvas[1] * size[0]
