"""What the headers and some pixels of an export say: sizes, depths, what cannot be read, and what channels show."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fatescope.data import images
from fatescope.data.crops import MIN_SIDE, Pixels, background
from fatescope.errors import ImageError

MAX_HEADERS = 50_000
"""Files whose headers are read; of more, an even sample."""
PER_CHANNEL = 40
"""Images of a channel that are decoded."""
_ROUND = 4
"""The canvas is rounded up to a multiple of this, px."""
_MARGIN = 1.15
"""How much larger the canvas is than what was seen, where not all was."""


@dataclass
class Sizes:
    """Of the crops that were looked at."""

    heights: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    depths: Counter[int] = field(default_factory=Counter)
    """Bit depth → crops."""
    refused: list[ImageError] = field(default_factory=list)
    looked_at: int = 0
    """Files."""
    pages: dict[str, int] = field(default_factory=dict, repr=False)
    """Path → cells in it, of files with several."""
    complete: bool = True
    """Whether all files were looked at."""

    def add(self, height: int, width: int, depth: int) -> None:
        """Count a crop."""
        self.heights.append(height)
        self.widths.append(width)
        self.depths[depth] += 1

    def canvas(self, max_refused_share: float) -> tuple[int, int]:
        """Return the (height, width) that all crops fit, or all but a few that are far larger than the others."""
        return self._side(self.heights, max_refused_share), self._side(self.widths, max_refused_share)

    def _side(self, lengths: list[int], max_refused_share: float) -> int:
        largest, usual = max(lengths), float(np.quantile(lengths, 1 - max_refused_share / 4, method="lower"))
        side = largest if largest <= 2 * usual else usual
        return _ROUND * int(np.ceil(side * (1 if self.complete else _MARGIN) / _ROUND))

    def range(self, lengths: list[int], most: int) -> tuple[int, int]:
        """Return the smallest and largest length, px, that is expected: some slack below, the canvas above."""
        return max(MIN_SIDE, int(0.8 * min(lengths))), most


def read_sizes(folder: Path, paths: Sequence[str], max_pixels: int) -> Sizes:
    """Return what the headers of image files say; one that would be refused counts as such."""
    sizes = Sizes(complete=len(paths) <= MAX_HEADERS)
    chosen = paths if sizes.complete else [paths[i] for i in spread(len(paths), MAX_HEADERS)]
    for path in tqdm(chosen, desc="look at headers", unit="file", delay=1):
        sizes.looked_at += 1
        try:
            headers = images.read_headers((folder / path).read_bytes(), path)
            sizes.pages |= {path: len(headers)} if len(headers) > 1 else {}
            for header in headers:
                images.check_header(header, path, max_pixels)
                sizes.add(header.height, header.width, header.bit_depth)
        except ImageError as error:
            sizes.refused.append(error)
        except OSError as error:
            sizes.refused.append(ImageError("unreadable", f"{path}: cannot be read: {error.strerror}"))
    return sizes


def spread(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` numbers below `count`, evenly spread."""
    return list(dict.fromkeys(np.linspace(0, count - 1, min(count, wanted)).astype(int).tolist()))


@dataclass
class ChannelLook:
    """What some images of a channel look like."""

    crops: list[tuple[Pixels, int]] = field(default_factory=list, repr=False)
    """Pixels of cells, and their bit depth."""
    refused: list[ImageError] = field(default_factory=list)

    @cached_property
    def background(self) -> float:
        """Return the median grey level around the cells, counts."""
        return self._levels[0]

    @cached_property
    def dark(self) -> float:
        """Return how far the darkest pixels of a cell are below the background, counts."""
        return self._levels[1]

    @cached_property
    def bright(self) -> float:
        """Return how far the brightest pixels of a cell are above the background, counts."""
        return self._levels[2]

    @cached_property
    def _levels(self) -> tuple[float, float, float]:
        rows = [_levels(pixels) for pixels, _ in self.crops]
        background, dark, bright = np.median(rows, axis=0).tolist() if rows else (0.0, 0.0, 0.0)
        return background, dark, bright


def look_at_channels(folder: Path, by_channel: dict[str, list[str]], max_pixels: int) -> dict[str, ChannelLook]:
    """Return channel → what some of its images look like."""
    looks = {channel: ChannelLook() for channel in by_channel}
    for channel, paths in by_channel.items():
        for path in paths:
            try:
                pages = images.decode((folder / path).read_bytes(), path, max_pixels)
                looks[channel].crops += [(pixels, header.bit_depth) for header, pixels in pages[:PER_CHANNEL]]
            except ImageError as error:
                looks[channel].refused.append(error)
            except OSError as error:
                looks[channel].refused.append(ImageError("unreadable", f"{path}: cannot be read: {error.strerror}"))
    return looks


def _levels(pixels: Pixels) -> tuple[float, float, float]:
    level = float(background(pixels))
    low, high = np.quantile(pixels, (0.01, 0.99))
    return level, level - float(low), float(high) - level


def brightfield_channels(looks: dict[str, ChannelLook]) -> list[str]:
    """Return the channels that look like brightfield: light all around the cells, and pixels that are darker.

    Stains and scatter are dark around the cells, which are brighter.
    """
    if not looks:
        return []
    most = max(look.background for look in looks.values())
    return [
        channel
        for channel, look in looks.items()
        if look.background >= most / 3 and look.dark > 0.25 * max(look.dark + look.bright, 1e-9) and look.dark > 0
    ]


def sample_by_channel(paths: Sequence[str], channels: Sequence[str]) -> dict[str, list[str]]:
    """Return channel → up to PER_CHANNEL of its paths, evenly spread."""
    by_channel = defaultdict[str, list[str]](list)
    for path, channel in zip(paths, channels, strict=True):
        by_channel[channel].append(path)
    return {channel: [its[i] for i in spread(len(its), PER_CHANNEL)] for channel, its in sorted(by_channel.items())}
