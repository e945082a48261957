"""An object of a native file: where it is, what the file says of it, and its pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Place:
    """Where an object is in its file."""

    index: int
    """How many objects come before it."""
    object: int
    """Its number in this file."""
    offset: int
    """Where its directory is, bytes from the start of the file."""


@dataclass(frozen=True)
class ObjectFacts:
    """What a file says of an object beside its pixels."""

    object: int
    """Its number in this file."""
    acquired_object: int | None
    """Its number in the acquisition."""
    height: int
    """px"""
    width: int
    """Of one channel, px."""
    camera_line: int | None
    camera_timer: int | None
    """With the line of the camera, the order in the run."""
    flow_speed: float | None
    """mm/s"""
    date: str
    background_mean: tuple[float, ...]
    """Of each channel in use, counts; empty where the file does not say, as the next two."""
    background_sd: tuple[float, ...]
    saturated: tuple[float, ...]
    """Saturated pixels of each channel in use."""


@dataclass(frozen=True)
class StoredImage:
    """The channels of an object as they are stored: compressed, all of them beside each other."""

    name: str
    """Of file and object, for messages."""
    stream: bytes
    height: int
    """px"""
    width: int
    """Of all channels, px."""
    spans: tuple[slice, ...]
    """The columns of the channels that were asked for, in their order."""


@dataclass(frozen=True)
class StoredObject:
    """An object whose bytes were read and not yet decoded."""

    facts: ObjectFacts
    image: StoredImage


@dataclass(frozen=True)
class NativeObject:
    """An object with the channels that were asked for."""

    facts: ObjectFacts
    images: npt.NDArray[np.uint16]
    """(C, H, W), counts, in the order in which the channels were asked for."""
    masks: npt.NDArray[np.uint8] | None
    """(C, H, W) of the same channels: 0 background, 1 object, 2 clipped in height, 3 in width; None without masks."""
