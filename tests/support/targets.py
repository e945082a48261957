"""The readers of what others made, as functions of bytes: what each accepts or refuses as declared, or fails at.

The tests that draw with Hypothesis call them (`make fuzz`), those that read `tests/corpus`, and the guided fuzzer
(`make fuzz GUIDED=1`). Whatever else than the declared errors leaves them is a fault.
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fatescope.data import images
from fatescope.data.native.analysis import read_analysis
from fatescope.data.native.objects import NativeObject
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError, ImageError
from pipelines.ingestion import archive
from service.inference import files
from service.inference.errors import RequestError
from service.inference.files import OtherChannel, RejectedFile, Upload
from tests.support import damage, native

MAX_PIXELS = 100_000
CHANNELS = (1, 5)
OBJECTS = native.draw_objects(3, CHANNELS, size=(10, 12))
XML = native.acquisition_xml(CHANNELS, (5,))
IMAGES = damage.kinds(damage.SMALL)
NATIVE = {
    "CIF": native.native(OBJECTS, xml=XML),
    "RIF": native.native(OBJECTS, masks=False, xml=XML, runs=("one", "two")),
}
ANALYSES = {
    "DAF": native.analysis("run.cif", 3, {"Dead": [1, 2]}, {"Live": (0, 1)}, native.records({0: 900, 1: 950})),
}
ARCHIVES = damage.zips(damage.SMALL)


def read_image(raw):
    """Read an image in each way that there is; return its pages, or None if it was refused as a whole."""
    try:
        headers = images.read_headers(raw, "cell")
    except ImageError:
        assert isinstance(decoded(raw), ImageError)
        return None
    # As the service does before it decodes.
    if sum(header.height * header.width for header in headers) > MAX_PIXELS or len(headers) > 20:
        return None
    pages = list(images.decode_pages(raw, headers, "cell", MAX_PIXELS))
    assert len(pages) == len(headers)
    for page in pages:
        if not isinstance(page, ImageError):
            header, pixels = page
            assert pixels.shape == (header.height, header.width)
            assert pixels.dtype in (np.uint8, np.uint16)
    together = decoded(raw)
    if isinstance(together, ImageError):
        assert any(isinstance(page, ImageError) for page in pages)
    else:
        assert len(together) == len(headers)
    return pages


def decoded(raw):
    """Return all pages of an image together, or why it was refused."""
    try:
        return images.decode(raw, "cell", MAX_PIXELS)
    except ImageError as error:
        return error


def read_objects(raw):
    """Read the objects of a native file with all channels and masks; return each or the reason why it is lost."""
    cells = []
    try:
        file = NativeFile(io.BytesIO(raw), "run.cif")
        channels = sorted({file.choose_channel("5"), *file.acquisition.channels})
        for place in file.places():
            cells.append(file.read(place, channels, 10_000, masks=True))
            assert isinstance(cells[-1], NativeObject | ImageError)
    except ImageError as error:
        cells.append(error)
    return cells


def read_populations(raw):
    """Return the populations of an analysis file, or why it was refused."""
    try:
        return read_analysis(io.BytesIO(raw), "run.daf").populations
    except DataError as error:
        return [error]


def unpack_export(raw):
    """Unpack the zip of an export in a folder of its own; return the files there, or None if it was refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "export.zip").write_bytes(raw)
        try:
            count = archive.unpack(folder / "export.zip", folder / "unpacked" / "here")
        except DataError:
            count = None
        assert {path.name for path in folder.iterdir()} <= {"export.zip", "unpacked"}, "nothing leads out of the folder"
        if (folder / "unpacked").exists():
            assert [path.name for path in (folder / "unpacked").iterdir()] == ["here"]
        if count is None:
            return None
        found = [path for path in (folder / "unpacked").rglob("*") if path.is_file() and path.name != "origin.json"]
        assert len(found) == count
        return found


def unpack_request(raw):
    """Return what is in the zip of a request, or None if the request was refused."""
    try:
        found = list(files.unpack([("cells.zip", io.BytesIO(raw))], lambda name: "_Ch4." in name))
    except RequestError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.status_code in {400, 413}
        return None
    assert all(isinstance(file, Upload | RejectedFile | OtherChannel) for file in found)
    for file in found:
        # As JSON, in the answer.
        file.name.encode()
        if isinstance(file, RejectedFile):
            assert file.error.code in {"zip", "too_large"}
            str(file.error).encode()
    return found


def unpack_both(raw):
    """Unpack a zip as import and service do."""
    unpack_request(raw)
    unpack_export(raw)


@dataclass(frozen=True)
class Target:
    """A reader for the guided fuzzer."""

    read: Callable[[bytes], object]
    kind: str
    """The folder in `tests/corpus` of its inputs."""
    whole: dict[str, bytes]
    """Name → a file that it reads, which the fuzzer starts from."""
    most_mb: float
    """Memory that reading a file of a few thousand bytes may take, MB."""


TARGETS = {
    # Tiles of `tiff` included, and an archive may expand a thousandfold.
    "images": Target(read_image, "images", IMAGES, 200),
    "native": Target(read_objects, "native", NATIVE, 40),
    "analyses": Target(read_populations, "native", ANALYSES, 40),
    "archives": Target(unpack_both, "archives", ARCHIVES, 300),
}
