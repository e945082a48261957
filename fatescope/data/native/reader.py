"""Read the objects of a .rif or .cif, one after the other, in memory that does not grow with their number."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.config.names import BRIGHTFIELD
from fatescope.data.crops import MIN_SIDE
from fatescope.data.native import directories as tags
from fatescope.data.native.acquisition import MAX_CHANNELS, Acquisition, read_acquisition
from fatescope.data.native.compression import MAX_NIBBLES, decode_image, decode_mask
from fatescope.data.native.directories import Directory, read_directory, read_first, read_next
from fatescope.data.native.objects import NativeObject, ObjectFacts, Place, StoredImage, StoredObject
from fatescope.data.native.source import WINDOW, DamageError, Source
from fatescope.errors import ImageError

BIT_DEPTH = 16
"""Of the values, as in the images that IDEAS exports."""
_MAX_TEXT = 100
_MOST_OF_ALL_CHANNELS = 4
"""How many times as large as an image all channels of an object together may be."""


class NativeFile:
    """A .rif or .cif. All that it raises is ImageError, which names the file and, where there is one, the object."""

    def __init__(self, file: IO[bytes] | Source, name: str, window: int = WINDOW) -> None:
        """Read the header of `file`, which can seek; `name` is for messages."""
        self.name = name
        self._source = file if isinstance(file, Source) else Source(file, window)
        self.size = self._source.size
        """Bytes."""
        self.pixels = 0
        """Of all channels of the objects that were decoded so far."""
        try:
            self._header = read_first(self._source)
            self.acquisition: Acquisition = read_acquisition(self._header)
        except DamageError as error:
            raise ImageError(
                "truncated" if self._source.starts_as_tiff() else "not_an_image",
                f"{name}: a raw file of an Amnis instrument (.rif or .cif) whose header cannot be read: {error}; "
                "copy or save it again",
            ) from error

    def choose_channel(self, preferred: str | None = None) -> int:
        """Return the brightfield channel: of several the `preferred` one, which also counts where no lamp is named.

        Raises ImageError where the file names none.
        """
        lit, wanted = list(self.acquisition.brightfield), int(preferred) if preferred and preferred.isdecimal() else 0
        if wanted in (lit or self.acquisition.channels):
            return wanted
        if lit:
            return lit[0]
        if not self.acquisition.channels:
            raise ImageError(
                "channels",
                f"{self.name}: its acquisition XML does not say which channels are in use; save it again in IDEAS",
            )
        raise ImageError(
            "channels",
            f"{self.name}: no channel in use has a brightfield lamp (in use are {list(self.acquisition.channels)}); "
            "name the brightfield one in dataset.channels",
        )

    def choose_channels(self, inputs: Sequence[str], kinds: Sequence[str]) -> tuple[int, ...]:
        """Return the channels that a model gets of each object: `inputs`, of these `kinds`.

        The one that is brightfield is chosen as `choose_channel` does where there is one alone; others count as named.
        Raises ImageError where the file does not have one of them.
        """
        if kinds.count(BRIGHTFIELD) != 1:
            return tuple(self._named(name) for name in inputs)
        preferred = inputs or (None,)
        return tuple(
            self.choose_channel(name) if kind == BRIGHTFIELD else self._named(name or "")
            for name, kind in zip(preferred, kinds, strict=True)
        )

    def _named(self, name: str) -> int:
        channel = int(name) if name.isdecimal() else 0
        if channel not in self.acquisition.channels:
            raise ImageError(
                "missing_channel",
                f"{self.name}: has no channel {name}, which dataset.channels names; in use are "
                f"{list(self.acquisition.channels)}",
            )
        return channel

    def places(self, start: Place | None = None) -> Iterator[Place]:
        """Yield where the objects are, from `start` or the first one on.

        Raises ImageError where the chain of objects breaks: those before it have been yielded, those behind it are
        lost.
        """
        index, announced = (start.index if start else 0), self.acquisition.objects
        try:
            directory = read_directory(self._source, start.offset) if start else self._next(self._header, index)
            while directory is not None:
                if directory.kind == tags.IMAGE_KIND:
                    number = directory.number(tags.OBJECT)
                    yield Place(index, index if number is None else number, directory.offset)
                    index += 1
                directory = self._next(directory, index)
        except DamageError as error:
            of = f" of {announced:,}" if announced else ""
            raise ImageError(
                "truncated",
                f"{self.name}: the objects from number {index:,} on{of} cannot be found: {error}; "
                "copy or save the file again",
            ) from error

    def starts(self, size: int) -> Iterator[Place]:
        """Yield where every `size`-th object is, from the first one on; raises ImageError as `places` does."""
        return islice(self.places(), 0, None, size)

    def _next(self, directory: Directory, index: int) -> Directory | None:
        return read_next(directory, expected=index < (self.acquisition.objects or 0))

    def read(
        self, place: Place, channels: Sequence[int], max_pixels: int, *, masks: bool = False
    ) -> NativeObject | ImageError:
        """Return an object with the `channels`, or why it cannot be read, which does not cost the others.

        An object of more than `max_pixels` px a channel is refused before anything is decoded.
        """
        try:
            directory, facts, image = self._find(place, channels, max_pixels)
            images = decode_image(image.stream, image.height, image.width, image.spans)
            covered = self._masks(directory, (image.height, image.width), image.spans) if masks else None
            return NativeObject(facts, images, covered)
        except DamageError as error:
            return _refuse(self._name(place), error)

    def find(self, place: Place, channels: Sequence[int], max_pixels: int) -> StoredObject | ImageError:
        """Return an object whose image `decode_stored` decodes, as `read` does, in another process for example."""
        try:
            _, facts, image = self._find(place, channels, max_pixels)
            return StoredObject(facts, image)
        except DamageError as error:
            return _refuse(self._name(place), error)

    def _name(self, place: Place) -> str:
        return f"{self.name}#{place.object}"

    def _find(
        self, place: Place, channels: Sequence[int], max_pixels: int
    ) -> tuple[Directory, ObjectFacts, StoredImage]:
        directory = read_directory(self._source, place.offset).index()
        height, width, columns = self._layout(directory, channels, max_pixels)
        stream = _stream(directory, tags.IMAGES_COMPRESSED, height * width * MAX_NIBBLES // 2)
        self.pixels += height * width
        each = width // len(self.acquisition.channels)
        spans = tuple(slice(column, column + each) for column in columns)
        image = StoredImage(self._name(place), stream, height, width, spans)
        return directory, self._facts(place, directory, height, each), image

    def _layout(self, directory: Directory, channels: Sequence[int], max_pixels: int) -> tuple[int, int, list[int]]:
        """Return height and width of all channels together, px, and where the `channels` begin."""
        used = self.acquisition.channels
        if not 0 < len(used) <= MAX_CHANNELS:
            raise DamageError("the acquisition XML of the file does not say which channels are in use")
        if missing := [channel for channel in channels if channel not in used]:
            raise _RefusalError("missing_channel", f"has no channel {missing[0]}; in use are {list(used)}")
        height, width = directory.needed(tags.HEIGHT), directory.needed(tags.WIDTH)
        if not height or not width or width % len(used):
            parts = plural.count(len(used), "channel")
            raise DamageError(f"{height}x{width} px (height x width) cannot be divided into {parts}")
        each = width // len(used)
        if height * each > max_pixels:
            raise _RefusalError("too_large", f"{height}x{each} px, but an image may have at most {max_pixels:,} px")
        if height * width > (most := _MOST_OF_ALL_CHANNELS * max_pixels):
            raise _RefusalError(
                "too_large", f"{height}x{width} px in {len(used)} channels, which may have at most {most:,} px together"
            )
        if min(height, each) < MIN_SIDE:
            raise _RefusalError("too_small", f"{height}x{each} px, but a cell needs {MIN_SIDE} px on each side")
        return height, width, [used.index(channel) * each for channel in channels]

    def _masks(self, image: Directory, size: tuple[int, int], spans: Sequence[slice]) -> npt.NDArray[np.uint8] | None:
        """Return the masks that follow an image, None where there are none."""
        directory = read_next(image, expected=False)
        if directory is None or directory.kind != tags.MASK_KIND:
            return None
        height, width = directory.needed(tags.HEIGHT), directory.needed(tags.WIDTH)
        if (height, width) != size:
            raise DamageError(f"its mask has {height}x{width} px, the image {size[0]}x{size[1]}")
        stream = _stream(directory, tags.MASKS_COMPRESSED, 2 * height * width)
        return decode_mask(stream, height, width, spans)

    def _facts(self, place: Place, directory: Directory, height: int, width: int) -> ObjectFacts:
        background_mean, background_sd, saturated = (
            directory.numbers(tag) for tag in (tags.BACKGROUND_MEAN, tags.BACKGROUND_SD, tags.SATURATED)
        )
        return ObjectFacts(
            object=place.object,
            acquired_object=directory.number(tags.ACQUIRED_OBJECT),
            height=height,
            width=width,
            camera_line=directory.number(tags.CAMERA_LINE),
            camera_timer=directory.number(tags.CAMERA_TIMER),
            flow_speed=directory.decimal(tags.FLOW_SPEED),
            date=directory.text(tags.DATE, _MAX_TEXT),
            background_mean=background_mean,
            background_sd=background_sd,
            saturated=saturated,
        )


class _RefusalError(DamageError):
    """An object that is whole but no cell, with the code for that."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_stored(image: StoredImage) -> npt.NDArray[np.uint16] | ImageError:
    """Return the channels of an object, (C, H, W), or why they cannot be decoded."""
    try:
        return decode_image(image.stream, image.height, image.width, image.spans)
    except DamageError as error:
        return _refuse(image.name, error)


def _refuse(name: str, error: DamageError) -> ImageError:
    if isinstance(error, _RefusalError):
        return ImageError(error.code, f"{name}: {error}")
    return ImageError("truncated", f"{name}: {error}; copy or save the file again")


def _stream(directory: Directory, compression: int, longest: int) -> bytes:
    """Return the compressed data of a directory, which are at most `longest` bytes."""
    found, size = directory.needed(tags.COMPRESSION), directory.needed(tags.STRIP_SIZE)
    if found != compression:
        raise DamageError(f"its compression is {found}, not {compression}")
    if size > longest:
        raise DamageError(f"it announces {size:,} bytes of compressed data for at most {longest:,}")
    return directory.source.read(directory.nearest(directory.needed(tags.STRIP_OFFSET)), size)
