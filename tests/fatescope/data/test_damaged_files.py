"""Nothing but ImageError leaves the readers of images, whatever the bytes are; and names are read whatever they are."""

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fatescope import config
from fatescope.data import paths
from fatescope.data.names import is_system_file
from tests.support import damage, fuzzing, targets
from tests.support.params import write_params

MAX_GROWN = 200_000
"""Memory, kB, that a file of a few hundred bytes may take, that of tiles of `tiff` included."""
READ = {
    "TIFF",
    "LZW",
    "BIG ENDIAN",
    "TILES",
    "LARGE TILES",
    "COLOURS",
    "PAGES",
    "PNG",
    "PNG 16",
    "PALETTE",
    "BMP",
    "JPEG",
}


def read(raw):
    """Read a file in each way that there is; return its pages, or None if it was refused as a whole."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        return targets.read_image(raw)
    finally:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < MAX_GROWN, f"{len(raw)} bytes took {grown} kB to read"


def test_whole_files_are_read():
    read_whole = {
        kind for kind, raw in targets.IMAGES.items() if all(isinstance(page, tuple) for page in read(raw) or [None])
    }
    assert read_whole >= READ


@pytest.mark.parametrize("path", fuzzing.corpus("images"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    read(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(targets.IMAGES))
@fuzzing.settings(600)
def test_damaged_files_are_read_or_refused(raw):
    with fuzzing.kept(raw, "images"):
        read(raw)


@pytest.mark.fuzz
@given(
    start=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"\x89PNG\r\n\x1a\n", b"BM", b"\xff\xd8\xff"]),
    rest=st.binary(),
)
@fuzzing.settings(300)
def test_bytes_that_start_like_an_image_are_read_or_refused(start, rest):
    with fuzzing.kept(start + rest, "images"):
        read(start + rest)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    dataset = config.load(write_params(tmp_path_factory.mktemp("params"))).dataset
    return paths.PathParser(dataset), paths.PatternDiagnostics(dataset.pattern)


@pytest.mark.fuzz
@given(names=damage.odd_names(), number=st.text(max_size=5))
@fuzzing.settings(100)
def test_any_name_is_read_or_has_a_reason(readers, names, number):
    parser, diagnostics = readers
    for name in [*names, *(f"{name}/a_1d{number}_1_Ch1.ome.tif" for name in names)]:
        assert isinstance(is_system_file(name), bool)
        parsed = parser.read(name)
        if parsed is None:
            assert diagnostics.reason(name).startswith("fits ")
        else:
            assert parsed.facts["channel"] == "1"
