"""The symmetries of an image: a cell in flow has no up and no left."""

from typing import NamedTuple

from torch import Tensor


class Way(NamedTuple):
    """One of the symmetries of a rectangle or a square."""

    swapped: bool
    """Whether rows become columns, first of all."""
    mirrored: list[int]
    """The axes of (B, C, H, W) that are mirrored."""


def symmetries_of(size: tuple[int, int], stretched: bool) -> list[Way]:
    """Return the eight symmetries of an image of a square `size`; the four of a rectangle else.

    What was `stretched` along one axis more than along the other is a rectangle, whatever its sides.
    """
    swaps = [False, True] if size[0] == size[1] and not stretched else [False]
    return [Way(swapped, mirrored) for swapped in swaps for mirrored in ([], [2], [3], [2, 3])]


def turn(images: Tensor, way: Way) -> Tensor:
    """Mirror and turn (B, C, H, W) images."""
    swapped = images.transpose(2, 3) if way.swapped else images
    return swapped.flip(way.mirrored) if way.mirrored else swapped


def turn_back(images: Tensor, way: Way) -> Tensor:
    """Undo `turn`."""
    straight = images.flip(way.mirrored) if way.mirrored else images
    return straight.transpose(2, 3) if way.swapped else straight


def is_stretched(canvas: tuple[int, ...], size: tuple[int, int], how: str) -> bool:
    """Return whether (H, W) pixels come to the input `size` with other proportions than they have."""
    return how == "stretch" and canvas[0] * size[1] != canvas[1] * size[0]
