"""The cells that a backbone may learn from without labels: all but those that any scheme tests on.

A label is not all that a test cell can give away: a backbone that saw its image would know it better than the cells of
tomorrow, and its accuracy would be too good. So no image of a test cell is used, nor one of its track, of its
acquisition group where groups are tested, nor a feedback image with the same pixels, or of such a group or track. Every
other cell counts, of whatever class, and those in no split too.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.config import Dataset, Params
from fatescope.config.names import BRIGHTFIELD
from fatescope.data import corrections, crops, images
from fatescope.data.crops import center, pixel_hash
from fatescope.data.dataset import CellDataset
from fatescope.data.paths import PathParser
from fatescope.data.splits import SCHEMES, Splits
from fatescope.data.tracks import Tracks, key_of, track_of
from fatescope.errors import ImageError

log = logging.getLogger(__name__)

COPIED = 4096
"""Cells that are copied at a time."""

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint16]


def untested(splits: Splits, cells: CellDataset, tracks: Tracks | None = None) -> Indices:
    """Return the rows of `cells` that no scheme tests on, in ascending order; `tracks` tells images of one cell.

    A cell of no split may be in a tested group, or be a tested cell at another time.
    """
    tested = np.logical_or.reduce([(splits.table[scheme] == "test").to_numpy(bool) for scheme in SCHEMES])
    tested |= cells.manifest["group"].isin(tested_groups(splits, cells)).to_numpy(bool)
    if tracks is not None:
        tested |= np.isin(tracks.keys, tracks.keys[tested])
    return np.flatnonzero(~tested)


def tested_groups(splits: Splits, cells: CellDataset) -> set[str]:
    """Return the acquisition groups that are tested as a whole."""
    return set(cells.manifest["group"][(splits.table["grouped"] == "test").to_numpy(bool)].astype(str))


@dataclass(frozen=True)
class Feedback:
    """Images that people let the service keep with their corrections."""

    pixels: Pixels
    """(n, H, W), or (n, C, H, W) of several channels, on the canvas of the cells; no two are the same."""
    tested: int
    """Images left out because a test cell has the same pixels, or because they are of its group or track."""
    known: int
    """Images left out because another cell that is learned from has the same pixels."""
    refused: dict[str, str]
    """Folder of an image → why it cannot be used."""


def read_feedback(
    folder: Path, cells: CellDataset, rows: Indices, params: Params, groups: set[str], tracks: Tracks | None = None
) -> Feedback:
    """Read the images that corrections in `folder` refer to; none where there is no such folder.

    `rows` are those of the cells that are learned from, and `groups` those that are tested as a whole. Images that
    cannot be used are logged and returned with the reason.
    """
    lines = [line for line in corrections.read(folder) if line.get("path")]
    owners = {_owner(line) for line in lines}
    parser = PathParser(params.dataset)
    followed = set[int]() if tracks is None else set(np.delete(tracks.keys, rows).tolist())
    of_test = {_owner(line) for line in lines if _is_tested(line, params.dataset, parser, groups, followed)}
    shape, kept, refused = cells.pixels.shape[1:], list[Pixels](), dict[str, str]()
    known, tested = _hashes(cells, rows) if owners else (set[int](), set[int]())
    left_out = {"tested": 0, "known": 0}
    for owner in sorted(owners):
        try:
            pixels = _read_cell(folder / owner, params)
            digest = pixel_hash(pixels)
            if owner in of_test or digest in tested or digest in known:
                left_out["tested" if owner in of_test or digest in tested else "known"] += 1
                continue
            kept.append(center(pixels, cells.canvas, owner))
        except (ImageError, OSError) as error:
            refused[owner] = str(error)
            log.warning("a feedback image is left out: %s", error)
        else:
            known.add(digest)
    return Feedback(np.stack(kept) if kept else np.empty((0, *shape), np.uint16), **left_out, refused=refused)


@contextmanager
def joined(cells: CellDataset, rows: Indices, more: Pixels) -> Iterator[tuple[Pixels, Indices]]:
    """Yield pixels and the rows of those to learn from: `rows` of `cells`, and the images in `more`.

    Where there are more, all are copied to a temporary file, because those of the cells may not fit into memory.
    """
    if not len(more):
        yield cells.pixels, rows
        return
    with tempfile.TemporaryDirectory(prefix="fatescope-pretrain-") as folder:
        count = len(rows) + len(more)
        pixels = np.lib.format.open_memmap(
            Path(folder) / "pixels.npy", "w+", np.dtype(np.uint16), (count, *cells.pixels.shape[1:])
        )
        for start in range(0, len(rows), COPIED):
            pixels[start : min(start + COPIED, len(rows))] = cells.pixels[rows[start : start + COPIED]]
        pixels[len(rows) :] = more
        yield pixels, np.arange(count)


def _owner(line: corrections.Line) -> str:
    """Return the folder of the image of a correction."""
    return str(line["path"]).partition("/")[0]


def _is_tested(
    line: corrections.Line, dataset: Dataset, parser: PathParser, groups: set[str], followed: set[int]
) -> bool:
    """Return whether the image of a correction is of one of `groups`, or of a track among the keys `followed`."""
    parsed = parser.read(str(line["path"]))
    # The path has the true class, and may so spell another group than the image is of.
    group = str(line.get("group") or (parsed.group if parsed else ""))
    if group in groups:
        return True
    track = track_of(parsed.facts, dataset) if parsed else ""
    return bool(track) and key_of(group, track) in followed


def _hashes(cells: CellDataset, rows: Indices) -> tuple[set[int], set[int]]:
    """Return the hashes of the pixels of `rows`, and of all other cells."""
    hashes = np.concatenate([part["pixel_hash"].to_numpy() for part in cells.table.read(["pixel_hash"])])
    return set(hashes[rows].tolist()), set(np.delete(hashes, rows).tolist())


def _read_cell(folder: Path, params: Params) -> crops.Pixels:
    """Return the pixels of the cell whose files are below `folder`: (H, W), or (C, H, W) in the order of channels."""
    channels, parser = list(params.dataset.channels or {"": BRIGHTFIELD}), PathParser(params.dataset)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if len(channels) > 1:
        by_channel = {parser.read_name(name).channel: name for name in files}
        files = {by_channel[channel]: files[by_channel[channel]] for channel in channels if channel in by_channel}
    if len(files) != len(channels):
        sent, has = plural.count(len(files), "file"), plural.count(len(channels), "channel")
        reason = f"{sent} of a cell that has {has}; send all of them with a correction"
        raise ImageError("missing_channel", f"{folder.name}: {reason}")
    most_pixels = int(params.ingest.max_megapixels * 1e6)
    decoded = [images.decode(path.read_bytes(), name, most_pixels) for name, path in files.items()]
    pages = images.join_pages(decoded, channels, folder.name)
    if len(pages) != 1:
        raise ImageError("pages", f"{folder.name}: {len(pages)} pages where a cell has one")
    return pages[0][1]
