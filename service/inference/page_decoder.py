"""Decode the pages of files: compressed ones, and the objects of native files, in processes that a file may end.

See `docs/explanation/decisions/010-decoding-in-processes.md`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from fatescope.data import archives, images
from fatescope.data.crops import Pixels
from fatescope.data.images import Header
from fatescope.data.native.objects import NativeObject, Place, StoredImage, StoredObject
from fatescope.data.native.reader import decode_stored
from fatescope.errors import ImageError
from fatescope.guarded_pool import Fatal, GuardedPool, PoolError
from fatescope.inference.classification import MAX_PIXELS
from fatescope.processes import share_bytes
from service import background
from service.background import Worker
from service.inference import decoding_parts as parts
from service.inference import metrics, recorded_cells
from service.inference.decoding_parts import Found, Page, decode_pages
from service.inference.errors import NO_DECODER, RequestError
from service.inference.files import OtherChannel, RejectedFile, Upload
from service.inference.recorded_cells import Described

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

T = TypeVar("T")
Pages = Callable[[bytes | Path, Sequence[Header], str], list[Pixels | ImageError]]
"""What decodes pages of a file in a process, see `decode_pages`."""

Objects = Callable[[StoredImage], npt.NDArray[np.uint16] | ImageError]
"""What decodes an object of a native file in a process."""

CHECK_INTERVAL_S = 10.0
"""Time between two looks at whether processes can be started."""
MEMORY_SHARE = 0.4
"""Of the memory of the machine, or its container, that all decoders may take together: the networks need the rest."""
LEAST_BYTES, MOST_BYTES = 256 << 20, 1 << 30
"""What each decoder may take in any case, and at most: 48 MB were enough for PNG, JPEG and TIFFs of 100 megapixels."""
MODULES = [
    "fatescope.data.archives",
    "fatescope.data.images",
    "fatescope.data.native.reader",
    parts.__name__,
    recorded_cells.__name__,
]
"""What the processes of a pool for this need."""
MIN_DESCRIBED = 64
"""Cells from which on another process describes them: fewer take a moment."""


def read_headers(file: Upload) -> list[Header]:
    """Return the headers of the pages of a file, read once; raises ImageError where there are none."""
    return images.read_headers(file.raw, file.name) if file.headers is None else file.headers


class PageDecoder:
    """Decodes the pages of files: without a pool in this process, which nothing protects then.

    Raises RequestError 503 where no process of the pool can be started: nothing is wrong with the files.
    """

    def __init__(
        self,
        pool: GuardedPool | None = None,
        pages: Pages = decode_pages,
        objects: Objects = decode_stored,
        entries: Callable[[bytes, ZipInfo], bytes] = archives.expand,
    ) -> None:
        """`pages`, `objects` and `entries` are what the processes of the `pool` call."""
        self._pool, self._pages, self._objects, self._entries = pool, pages, objects, entries

    @classmethod
    def with_processes(cls, count: int, gateways: int = 1) -> Self:
        """Return one with a pool of so many processes, of none for 0; each of the `gateways` of a machine has one."""
        if not count:
            return cls()
        memory = share_bytes(count * gateways, MEMORY_SHARE, least=LEAST_BYTES, most=MOST_BYTES)
        return cls(GuardedPool(count, MODULES, memory_bytes=memory))

    @property
    def unready_reason(self) -> str | None:
        """Return why no process of the pool can be started; None where one can, or none is needed."""
        return self._pool.failure if self._pool else None

    async def watch(self) -> None:
        """Find out again and again whether processes can be started, until cancelled."""
        worker = Worker("decoders", CHECK_INTERVAL_S, metrics.publish_worker, longest_wait_s=CHECK_INTERVAL_S)
        await background.repeat(worker, self.check)

    async def check(self) -> None:
        """Do it once, and publish it."""
        if self._pool:
            before = self._pool.failure
            await asyncio.to_thread(self._pool.check)
            if self._pool.failure != before:
                log.warning("%s", self._pool.failure or "files can be decoded again")
        metrics.DECODING.set(self.unready_reason is None)

    def start(self) -> None:
        """Start a process of the pool, so that the first file does not wait for it; raises OSError if none can be."""
        if self._pool:
            self._pool.start()

    def close(self) -> None:
        """End the processes of the pool."""
        if self._pool:
            self._pool.close()

    def is_quick(self, file: Upload) -> bool:
        """Return whether `decode` waits for no other process; raises ImageError for a file without a header."""
        return self._pool is None or images.is_plain(file.raw, read_headers(file))

    def decode(self, file: Upload, headers: list[Header]) -> Iterator[Page]:
        """Yield the pages of a file whose `headers` were read, each decoded or as the reason why it is refused."""
        if file.decoded is not None:
            yield from parts.join(headers, file.decoded)
        elif self._pool is None or images.is_plain(file.raw, headers):
            yield from images.decode_pages(file.raw, headers, file.name, MAX_PIXELS)
        else:
            ranges = list(parts.ranges(headers))
            with parts.lent(file.raw, len(ranges)) as source:
                for part in ranges:
                    yield from parts.join(part, self._decode_range(self._pool, source, part, file.name))

    def _decode_range(
        self, pool: GuardedPool, source: bytes | Path, headers: list[Header], name: str
    ) -> list[Pixels | ImageError]:
        """Return some pages of a file; of those that end a process, each alone is the reason for itself."""
        [pages] = _run(pool, self._pages, [(source, headers, name)])
        if not isinstance(pages, Fatal):
            return pages
        if len(headers) == 1:
            return [parts.refuse(name, pages)]
        return parts.first(
            _run(pool, self._pages, [(source, [header], name) for header in headers]), [name] * len(headers)
        )

    def expand(self, archive: ZipFile, entry: ZipInfo, name: str) -> bytes:
        """Return an entry of a zip, whose `name` is for messages.

        Raises ImageError where that ends or stops a process, and as `archive.read` does.
        """
        # Of deflate, zlib needs a window of 32 kB, and time in proportion to the bytes; of others, that is up to them.
        if self._pool is None or entry.compress_type in (ZIP_STORED, ZIP_DEFLATED):
            return archives.read(archive, entry)
        [raw] = _run(self._pool, self._entries, [(archives.read_compressed(archive, entry), entry)])
        if isinstance(raw, Fatal):
            raise parts.refuse(name, raw)
        return raw

    def describe(self, crops: Sequence[Pixels], bit_depths: Sequence[int]) -> Described:
        """Return what `recorded_cells.describe` does of one or more cells, many of them from a process of the pool.

        From this one where no process does it.
        """
        if self._pool is None or len(crops) < MIN_DESCRIBED:
            return recorded_cells.describe(crops, bit_depths)
        described = list[Described]()
        # One call after the other, so that files which wait to be decoded come between them.
        for part in recorded_cells.parts(crops, bit_depths):
            try:
                [result] = self._pool.run(recorded_cells.describe, [part])
            except PoolError:
                result = Fatal(hung=False)
            described.append(recorded_cells.describe(*part) if isinstance(result, Fatal) else result)
        hashes, features = zip(*described, strict=True)
        return np.concatenate(hashes), np.concatenate(features)

    def decode_objects(self, found: Iterator[Found]) -> Iterator[tuple[Place, NativeObject | ImageError]]:
        """Yield objects with their channels, or why they cannot be decoded, in their order.

        Those before one that cannot be found are yielded before that is raised.
        """
        if self._pool is None:
            for place, stored in found:
                yield place, _object(stored, None if isinstance(stored, ImageError) else decode_stored(stored.image))
            return
        for together in parts.together(found):
            calls = [(stored.image,) for _, stored in together if isinstance(stored, StoredObject)]
            results = iter(_run(self._pool, self._objects, calls))
            for place, stored in together:
                images = None if isinstance(stored, ImageError) else next(results)
                yield place, _object(stored, images)

    def decode_ahead(
        self, files: Iterator[Upload | RejectedFile | OtherChannel]
    ) -> Iterator[Upload | RejectedFile | OtherChannel]:
        """Yield the files in their order: those of one page that need a process are sent to it many together."""
        if self._pool is None:
            yield from files
            return
        waiting: list[Upload | RejectedFile | OtherChannel] = []
        calls: dict[int, tuple[bytes, list[Header], str]] = {}
        size, pixels = 0, 0
        for file in files:
            headers = _headers(file) if isinstance(file, Upload) and file.file is None else None
            if isinstance(file, Upload) and headers:
                size += len(file.raw)
                if len(headers) == 1 and parts.is_sent(file.raw) and not images.is_plain(file.raw, headers):
                    calls[len(waiting)] = file.raw, headers, file.name
                    pixels += parts.count(headers[0])
                    waiting.append(file)
                else:
                    waiting.append(replace(file, headers=headers))
            else:
                waiting.append(file)
            if len(waiting) >= parts.AHEAD_FILES or parts.is_full(len(calls), pixels) or size >= parts.AHEAD_BYTES:
                yield from self._decode_together(self._pool, waiting, calls)
                waiting, calls, size, pixels = [], {}, 0, 0
        yield from self._decode_together(self._pool, waiting, calls)

    def _decode_together(
        self,
        pool: GuardedPool,
        files: list[Upload | RejectedFile | OtherChannel],
        calls: dict[int, tuple[bytes, list[Header], str]],
    ) -> list[Upload | RejectedFile | OtherChannel]:
        """Return the files, those of the `calls` decoded; these are by their places."""
        if not calls:
            return files
        pages = _run(pool, self._pages, list(calls.values()))
        decoded = parts.first(pages, [name for _, _, name in calls.values()])
        for (place, (_, headers, _)), page in zip(calls.items(), decoded, strict=True):
            file = files[place]
            assert isinstance(file, Upload)
            files[place] = replace(file, headers=headers, decoded=[page])
        return files


def _run(pool: GuardedPool, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T | Fatal]:
    try:
        return pool.run(function, calls)
    except PoolError as error:
        log.error("files cannot be decoded: %s", error)  # noqa: TRY400  one line says it
        message = "files cannot be decoded for now; try again in a few seconds"
        raise RequestError(503, NO_DECODER, message, headers={"Retry-After": "5"}) from error


def _headers(file: Upload) -> list[Header] | None:
    """Return the headers of a file; None where they cannot be read, which is said where it is decoded."""
    try:
        return read_headers(file)
    except ImageError:
        return None


def _object(
    stored: StoredObject | ImageError, images: npt.NDArray[np.uint16] | ImageError | Fatal | None
) -> NativeObject | ImageError:
    if isinstance(stored, ImageError):
        return stored
    if isinstance(images, Fatal):
        return parts.refuse(stored.image.name, images)
    assert images is not None
    return images if isinstance(images, ImageError) else NativeObject(stored.facts, images, None)
