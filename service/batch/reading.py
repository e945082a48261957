"""Read the entries of the listing of a batch job (`service.batch.pieces`) into cells."""

from collections.abc import Iterator
from pathlib import Path

from fatescope.data.native.names import is_native
from fatescope.errors import ImageError
from service.batch import pieces
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.decoding import CellDecoder
from service.inference.files import MAX_FILE_BYTES, Upload, too_large


def decode_entry(decoder: CellDecoder, source: Path, entry: str) -> Iterator[DecodedCell | FailedCell]:
    """Yield the cells of an entry, whose files are below `source`."""
    piece = pieces.parse(entry)
    try:
        if piece is not None and not (source / entry).exists():
            with (source / piece.path).open("rb") as raw:
                yield from decoder.native.decode(raw, piece.path, piece.start, objects=piece.objects or None)
        elif is_native(entry):
            with (source / entry).open("rb") as raw:
                yield from decoder.native.decode(raw, entry)
        else:
            yield from decoder.decode_object([Upload(_read(source, file), file) for file in pieces.files_of(entry)])
    except ImageError as error:
        yield FailedCell(pieces.file_of(entry), None, None, error)
    except OSError as error:
        yield refuse(entry, error.strerror or str(error))


def refuse(entry: str, reason: str) -> FailedCell:
    """Return the failure of an entry that cannot be read."""
    file = pieces.file_of(entry)
    return FailedCell(file, None, None, ImageError("unreadable", f"{file}: {reason}"))


def _read(source: Path, path: str) -> bytes:
    try:
        if (source / path).stat().st_size > MAX_FILE_BYTES:
            raise too_large(path)
        return (source / path).read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{path}: {error.strerror}") from error
