"""Decode files into cells on the canvas of a model, or report why a file cannot be used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fatescope.config import Dataset
from fatescope.data import paths
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from service.inference.decoded_cell import DecodedCell, FailedCell, TooManyCells, build_cell
from service.inference.decoding_parts import Page
from service.inference.file_limits import check_size
from service.inference.files import RejectedFile, Upload
from service.inference.native_decoding import NativeDecoder
from service.inference.object_channels import ObjectChannels
from service.inference.page_decoder import PageDecoder, read_headers


class CellDecoder:
    """Decodes files for one model."""

    def __init__(self, spec: Spec, pages: PageDecoder | None = None) -> None:
        """`pages` decodes the pages of files; without it, this process does."""
        self._spec = spec
        self.pages = pages or PageDecoder()
        self.parser = paths.PathParser(Dataset.read(spec.params["dataset"]))
        """Reads the names of files as those of the training data."""
        self.channels = ObjectChannels(spec, self.parser)
        """Tells the files of an object apart."""

    @property
    def native(self) -> NativeDecoder:
        """Return what decodes native files."""
        return NativeDecoder(self._spec, self.pages)

    def decode(
        self, file: Upload | RejectedFile, *, details: bool = False, max_cells: int | None = None
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of `file`, one per page or object; raises TooManyCells for over `max_cells`.

        That is before the first one, unless a native file has more objects than it announces.
        """
        if max_cells == 0:
            raise TooManyCells
        if isinstance(file, Upload) and file.file is not None:
            yield from self.native.decode(file.file, file.name, details=details, max_cells=max_cells)
            return
        number = self.parser.read_name(file.name).object
        if isinstance(file, RejectedFile):
            yield FailedCell(file.name, None, number, file.error)
            return
        try:
            headers = read_headers(file)
            if max_cells is not None and len(headers) > max_cells:
                raise TooManyCells
            check_size(headers, file.name)
            for index, page in enumerate(self.pages.decode(file, headers)):
                yield build_cell(
                    page, self._spec, file.name, index if len(headers) > 1 else None, number, details=details
                )
        except ImageError as error:
            if max_cells is not None and error.code == "too_many_pages":
                raise TooManyCells from error
            yield FailedCell(file.name, None, number, error)

    def decode_object(
        self, files: Sequence[Upload | RejectedFile], *, details: bool = False, max_cells: int | None = None
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of the `files` of one object: of one, or of one for each channel of the model, in any order.

        A native file has all channels. Raises TooManyCells as `decode` does.
        """
        first = files[0]
        if not self.channels.several or (isinstance(first, Upload) and first.file is not None):
            for file in files:
                yield from self.decode(file, details=details, max_cells=max_cells)
            return
        if max_cells == 0:
            raise TooManyCells
        number = self.parser.read_name(first.name).object
        try:
            ordered = self.channels.in_order(files)
            name, channels = ordered[0].name, [self._decode_channel(file, max_cells) for file in ordered]
            self.channels.check_counts(channels, name)
            for index, pages in enumerate(zip(*channels, strict=True)):
                page = self.channels.join(pages, name)
                yield build_cell(
                    page, self._spec, name, index if len(channels[0]) > 1 else None, number, details=details
                )
        except ImageError as error:
            yield FailedCell(first.name, None, number, error)

    def _decode_channel(self, file: Upload, max_cells: int | None) -> list[Page]:
        try:
            headers = read_headers(file)
        except ImageError as error:
            if max_cells is not None and error.code == "too_many_pages":
                raise TooManyCells from error
            raise
        if max_cells is not None and len(headers) > max_cells:
            raise TooManyCells
        check_size(headers, file.name)
        return list(self.pages.decode(file, headers))

    def decode_at_once(self, *files: Upload) -> DecodedCell | None:
        """Return what `decode_one` does of files that need no other process, None of others."""
        read = [replace(file, headers=read_headers(file)) for file in files]
        return self.decode_one(*read) if all(self.pages.is_quick(file) for file in read) else None

    def decode_one(self, *files: Upload, page: int | None = None) -> DecodedCell:
        """Return the cell of a file with a single page, or of one for each channel of the model; raises ImageError.

        With `page`, from 0, the files may have several.
        """
        pages = [self._decode_page(file, place, page) for place, file in enumerate(files)]
        number, name = self.parser.read_name(files[0].name).object, files[0].name
        cell = build_cell(self.channels.join(pages, name), self._spec, name, None, number, details=False)
        if isinstance(cell, FailedCell):
            raise cell.error
        return cell

    def _decode_page(self, file: Upload, place: int, page: int | None) -> Page:
        """Return the page of a file that is of the channel at `place`; raises ImageError where there is none."""
        self.channels.check(file.name, place)
        headers = read_headers(file)
        if page is not None:
            if page >= len(headers):
                raise ImageError("pages", f"{file.name}: no page {page}; it has {len(headers):,}, counted from 0")
            [only] = self.pages.decode(replace(file, headers=None), [headers[page]])
            return only
        if len(headers) != 1:
            raise ImageError(
                "pages",
                f"{file.name}: {len(headers)} pages where 1 was expected; send many cells to /classify_batch",
            )
        [only] = self.pages.decode(file, headers)
        return only
