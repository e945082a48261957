"""The files of one object, one for each channel of a model: which is which, and one image of them all."""

from collections.abc import Sequence
from dataclasses import dataclass

from fatescope.data import images, names, paths
from fatescope.data.native.names import is_native
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from service.inference.decoding_parts import Page
from service.inference.files import RejectedFile, Upload


@dataclass(frozen=True)
class ObjectChannels:
    """The channels that a model takes of each object, as names of files say them."""

    spec: Spec
    parser: paths.PathParser

    @property
    def several(self) -> bool:
        """Return whether the model takes several channels of a cell."""
        return len(self.spec.kinds) > 1

    def in_order(self, files: Sequence[Upload | RejectedFile]) -> list[Upload]:
        """Return the files of an object in the order of the channels; raises ImageError where they are not one each."""
        if not self.several and len(files) > 1:
            raise ImageError(
                "channels", f"{files[1].name}: a second image, but the model takes one of a cell; send one"
            )
        placed: dict[int, Upload] = {}
        for file in files:
            if isinstance(file, RejectedFile):
                raise file.error
            place = self._place(file.name) if self.several else 0
            if place in placed:
                raise ImageError(
                    "channels", f"{file.name}: is the same channel of the same object as {placed[place].name}; send one"
                )
            placed[place] = file
        if lost := [name for place, name in enumerate(self.spec.inputs) if place not in placed]:
            raise self._missing(files[0].name, f"channel {lost[0]} of this object is missing")
        return [placed[place] for place in range(len(self.spec.kinds))]

    def _place(self, name: str) -> int:
        channel = self.parser.read_name(name).channel
        place = None if channel is None else self.parser.channel_index(channel)
        if place is None:
            raise self._missing(name, "its name says none of its channels")
        return place

    def _missing(self, name: str, reason: str) -> ImageError:
        wanted = " and ".join(f"{channel} ({kind})" for channel, kind in self.spec.channels.items())
        return ImageError("missing_channel", f"{name}: {reason}; the model takes channels {wanted} of each cell")

    def is_other(self, name: str) -> bool:
        """Return whether the name of a file says that it is of another channel than the model's.

        A native file has all channels.
        """
        return not is_native(name) and self._is_other(self.parser.read_name(name).channel)

    def _is_other(self, channel: str | None) -> bool:
        wanted = self.spec.inputs
        return channel is not None and bool(wanted) and not any(names.same_channel(channel, one) for one in wanted)

    def check(self, name: str, place: int) -> None:
        """Raise ImageError where a name says that a file is not of the model's channel at `place`."""
        channel, expected = self.parser.read_name(name).channel, (*self.spec.inputs, None)[place]
        if channel is not None and expected is not None and not names.same_channel(channel, expected):
            raise ImageError(
                "other_channel",
                f"{name}: channel {channel}, but the model was trained on channel {expected}; send that channel",
            )

    def join(self, pages: Sequence[Page], name: str) -> Page:
        """Return the page of a cell with all of its channels, or why there is none."""
        decoded = []
        for page in pages:
            if isinstance(page, ImageError):
                return page
            decoded.append([page])
        try:
            return images.join_pages(decoded, self.spec.inputs, name)[0]
        except ImageError as error:
            return error

    def check_counts(self, channels: Sequence[Sequence[Page]], name: str) -> None:
        """Raise ImageError where the files of an object do not have as many pages of each channel."""
        if len({len(pages) for pages in channels}) > 1:
            counts = ", ".join(
                f"{len(pages)} of channel {one}" for one, pages in zip(self.spec.inputs, channels, strict=True)
            )
            raise ImageError("channels_differ", f"{name}: the pages are {counts}; export as many of each channel")
