"""The cells of a request for many: its files, unpacked and decoded one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from service.inference.decoded_cell import DecodedCell, FailedCell, TooManyCells
from service.inference.errors import RequestError
from service.inference.files import Origin, OtherChannel, RejectedFile, Upload, unpack
from service.inference.served_model import ServedModel


@dataclass(frozen=True)
class Item:
    """A file, or a page of one, and where in the request it comes from."""

    cell: DecodedCell | FailedCell | OtherChannel
    origin: Origin


def decode(files: list[tuple[str, IO[bytes]]], model: ServedModel, *, details: bool, max_cells: int) -> Iterator[Item]:
    """Yield the cells in files; raises RequestError 413 for more than `max_cells`."""
    cells, decoder = 0, model.decoder
    unpacked = unpack(
        files,
        decoder.channels.is_other,
        decoder.parser.object_key if decoder.channels.several else None,
        decoder.pages.expand,
    )
    for of_object in _objects(decoder.pages.decode_ahead(unpacked)):
        file = of_object[0]
        if isinstance(file, OtherChannel):
            yield Item(file, Origin())
            continue
        try:
            # Raised before any page of the file is decoded.
            images = [one for one in of_object if not isinstance(one, OtherChannel)]
            for cell in decoder.decode_object(images, details=details, max_cells=max_cells - cells):
                cells += 1
                yield Item(cell, file.origin)
        except TooManyCells as error:
            raise RequestError(
                413, "too_many_cells", f"{file.name}: with it, the request has more than {max_cells:,} cells; send the "
                "cells in several requests",
            ) from error  # fmt: skip


def _objects(
    files: Iterator[Upload | RejectedFile | OtherChannel],
) -> Iterator[list[Upload | RejectedFile | OtherChannel]]:
    """Yield the files of each object that follow each other; a file without a key of an object by itself."""
    together: list[Upload | RejectedFile | OtherChannel] = []
    for file in files:
        key = "" if isinstance(file, OtherChannel) else file.object_key
        if together and not (key and key == getattr(together[0], "object_key", "")):
            yield together
            together = []
        together.append(file)
    if together:
        yield together
