"""What a champion sees of cells, for a head that is taught on it; the runner gives predictions alone.

The network runs in this process, in ONNX Runtime: a few hundred cells, once for each lesson.
"""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from fatescope.data import features
from fatescope.data.batches import batched
from fatescope.data.crops import pixel_hash
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle, Spec
from service.inference.classify_batch import CHUNK
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.files import Origin
from service.inference.items import Item, decode
from service.inference.requester import count_cells
from service.inference.served_model import ServedModel

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Where in the vector of a cell its parts are."""

    embedding: int
    features: int
    acquisition: int

    @classmethod
    def of(cls, model: ServedModel) -> "Layout":
        """Return that of a model."""
        channels = len(model.spec.kinds)
        width = network(model).outliers.means.shape[1]
        return cls(width, channels * len(features.CELL), channels * len(features.ACQUISITION))

    @property
    def size(self) -> int:
        """Return the numbers of a vector."""
        return self.embedding + self.features + self.acquisition

    def split(self, vectors: Floats) -> list[Floats]:
        """Return the embeddings, the features of the cell and those of the acquisition of (n, size) vectors."""
        return np.split(vectors, [self.embedding, self.embedding + self.features], axis=1)


@dataclass(frozen=True)
class Described:
    """What is kept of a cell: no pixels, which of thousands of large images would be gigabytes."""

    file: str
    page: int | None
    object: int | None
    upload: int | None
    sample: str | None
    image_hash: str
    """The hash of its pixels, as text: numbers in JavaScript have 53 bits."""
    size: tuple[int, int]
    """Native height and width, px."""
    bit_depth: int
    vector: Floats
    """What lessons take."""

    @classmethod
    def of(cls, cell: DecodedCell, origin: Origin, vector: Floats) -> "Described":
        """Return what is kept of a cell."""
        return cls(
            cell.file,
            cell.page,
            cell.object,
            origin.upload,
            origin.sample,
            str(pixel_hash(cell.native)),
            cell.size,
            cell.bit_depth,
            vector,
        )


_loading = threading.Lock()
_loaded: dict[Path, Bundle] = {}
"""The bundle that was used last."""


def network(model: ServedModel) -> Bundle:
    """Return the bundle of a served model, to run in this process."""
    path = model.champion.path
    with _loading:
        if path not in _loaded:
            _loaded.clear()
            _loaded[path] = bundle.load(path, threads=1)
        return _loaded[path]


async def describe(
    files: list[tuple[str, IO[bytes]]], model: ServedModel, max_cells: int
) -> tuple[list[Described], list[FailedCell]]:
    """Return the cells in files, and those that cannot be read; raises RequestError as `classify_many` does.

    It ends with the chunk at work once its request has ended, and each chunk counts for the quota of the key.
    """
    described, failed = list[Described](), list[FailedCell]()
    running = await asyncio.to_thread(network, model)
    chunks = _describe(batched(decode(files, model, details=False, max_cells=max_cells), CHUNK), running)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        count_cells(len(chunk[0]))
        described += chunk[0]
        failed += chunk[1]
    return described, failed


def _describe(chunks: Iterator[list[Item]], running: Bundle) -> Iterator[tuple[list[Described], list[FailedCell]]]:
    for items in chunks:
        failed = [item.cell for item in items if isinstance(item.cell, FailedCell)]
        readable = [(item.cell, item.origin) for item in items if isinstance(item.cell, DecodedCell)]
        vectors = _vectors([cell for cell, _ in readable], running)
        yield [Described.of(*one, vector) for one, vector in zip(readable, vectors, strict=True)], failed


def _vectors(cells: list[DecodedCell], running: Bundle) -> Iterator[Floats]:
    if not cells:
        return
    pixels = np.stack([cell.pixels for cell in cells])
    embedding = running.predict(pixels, maps=False).embedding
    of_cells = cell_features(pixels, running.spec)
    for cell, seen, simple in zip(cells, embedding, of_cells, strict=True):
        yield np.concatenate([seen, simple, features.acquisition(cell.native[None], cell.bit_depth)[0]])


def cell_features(pixels: npt.NDArray[np.uint16], spec: Spec) -> Floats:
    """Return the (B, F) simple features of cells on the canvas, those of each channel beside each other."""
    if len(spec.kinds) == 1:
        return features.cell(pixels)
    return np.concatenate([features.cell(pixels[:, channel]) for channel in range(len(spec.kinds))], axis=1)
