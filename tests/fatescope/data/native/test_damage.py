"""Whatever the bytes of a native file are: one kind of error that names file and object, and memory stays small."""

import io
import struct
import tracemalloc

import numpy as np
import pytest

from fatescope.data.native import compression, xml
from fatescope.data.native.reader import NativeFile, NativeObject
from fatescope.data.native.source import DamageError
from fatescope.errors import ImageError
from tests.support import native

MOST = 10**5
OBJECTS = native.draw_objects(6, (1, 5), size=(12, 14))
XML = native.acquisition_xml((1, 5), (5,))
WHOLE = native.native(OBJECTS, xml=XML)


def read(raw, name="run.cif"):
    """Return the objects of a file, the reasons for those that are refused, and the reason why the rest is lost."""
    cells, refused = [], []
    try:
        file = NativeFile(io.BytesIO(raw), name)
        channel = file.choose_channel()
        for place in file.places():
            cell = file.read(place, [channel], MOST, masks=True)
            (cells if isinstance(cell, NativeObject) else refused).append(cell)
    except ImageError as error:
        return cells, refused, error
    return cells, refused, None


def offsets():
    """Return where the directories of WHOLE are, the header first."""
    places, at = [], 8
    while at:
        places.append(at)
        (entries,) = struct.unpack_from("<H", WHOLE, at)
        (at,) = struct.unpack_from("<I", WHOLE, at + 2 + 12 * entries)
    return places


def changed(directory, tag, **parts):
    """Return WHOLE with the type, count or value of an entry changed; tag None changes the pointer to the next one."""
    raw, at = bytearray(WHOLE), offsets()[directory]
    (entries,) = struct.unpack_from("<H", raw, at)
    if tag is None:
        struct.pack_into("<I", raw, at + 2 + 12 * entries, parts["value"])
        return bytes(raw)
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        found, code, count, value = struct.unpack_from("<HHII", raw, entry)
        if found == tag:
            new = parts.get("code", code), parts.get("count", count), parts.get("value", value)
            struct.pack_into("<HII", raw, entry + 2, *new)
            return bytes(raw)
    raise AssertionError(tag)


def test_a_whole_file_is_read_whole():
    cells, refused, lost = read(WHOLE)
    assert (len(cells), refused, lost) == (6, [], None)


@pytest.mark.parametrize(
    ("tag", "parts", "code", "words"),
    [
        (256, {"value": 4_000_000_000}, "too_large", "may have at most"),
        (257, {"value": 4_000_000_000}, "too_large", "may have at most"),
        (257, {"value": 0}, "truncated", "cannot be divided"),
        (257, {"value": 3}, "too_small", "a cell needs 8 px"),
        (256, {"value": 15}, "truncated", "cannot be divided into 2 channels"),
        (257, {"value": 80}, "truncated", r"compressed data hold [\d,]+ of"),
        (257, {"code": 2}, "truncated", "tag 257 is missing or of another type"),
        (259, {"value": 1}, "truncated", "its compression is 1, not 30817"),
        (273, {"value": 4_000_000_000}, "truncated", "it refers to"),
        (279, {"value": 4_000_000_000}, "truncated", "announces 4,000,000,000 bytes of compressed data"),
        (279, {"value": 9}, "truncated", "compressed data hold"),
        (33052, {"count": 2_000_000_000}, "truncated", "tag 33052 announces 2,000,000,000 values"),
        (33052, {"value": 4_000_000_000}, "truncated", "tag 33052 cannot be read"),
    ],
)
def test_a_damaged_object_does_not_cost_the_others(tag, parts, code, words):
    cells, refused, lost = read(changed(3, tag, **parts))
    assert [cell.facts.object for cell in cells] == [0, 2, 3, 4, 5]
    assert lost is None
    [error] = refused
    assert error.code == code
    assert str(error).startswith("run.cif#1: ")
    with pytest.raises(ImageError, match=words):
        raise error


@pytest.mark.parametrize("value", [0, 8, offsets()[2], 4_000_000_000, offsets()[3] + 1])
@pytest.mark.parametrize("directory", [3, 4])
def test_a_damaged_pointer_is_mended_by_where_the_next_directory_must_be(directory, value):
    cells, refused, lost = read(changed(directory, None, value=value))
    assert [cell.facts.object for cell in cells] == [0, 1, 2, 3, 4, 5]
    assert (refused, lost) == ([], None)


@pytest.mark.parametrize("directory", [1, 7, 12])
def test_objects_before_a_lost_one_are_read(directory):
    raw = bytearray(WHOLE)
    struct.pack_into("<H", raw, offsets()[directory], 60_000)
    cells, refused, lost = read(bytes(raw))
    if directory % 2:
        assert len(cells) == directory // 2
        assert f"run.cif: the objects from number {directory // 2} on of 6 cannot be found" in str(lost)
    else:  # the mask of the last one
        assert len(cells) == 5
        assert str(refused[0]).startswith("run.cif#5: ")


def test_a_truncated_file_gives_what_it_still_holds():
    cells, _, lost = read(WHOLE[: offsets()[7]])
    assert len(cells) == 3
    assert "the objects from number 3 on of 6 cannot be found" in str(lost)
    assert lost.code == "truncated"


@pytest.mark.parametrize("raw", [b"", b"II*\0", WHOLE[:300], b"MM\0*" + WHOLE[4:], bytes(500)])
def test_what_is_no_native_file_is_told(raw):
    _, _, lost = read(raw)
    assert str(lost).startswith(
        "run.cif: a raw file of an Amnis instrument (.rif or .cif) whose header cannot be read: "
    )


def test_an_ordinary_tiff_is_no_native_file():
    raw = bytearray(changed(0, 33018, count=0))
    raw = raw.replace(struct.pack("<HHI", 33002, 3, 1), struct.pack("<HHI", 33000, 3, 1), 1)
    raw = raw.replace(struct.pack("<HHI", 33018, 4, 0), struct.pack("<HHI", 33011, 4, 0), 1)
    assert "not the header of a .rif or .cif" in str(read(bytes(raw))[2])


def test_a_missing_pointer_to_the_mask_does_not_matter_where_no_mask_is_asked_for():
    file = NativeFile(io.BytesIO(changed(3, None, value=4_000_000_000)), "run.cif")
    assert all(isinstance(file.read(place, [5], MOST), NativeObject) for place in file.places())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "declares a document type"),
        (b"<a>" * 200, "in more than 100 others"),
        (b"<a><b></a>", "cannot be read"),
        (b"<?xml version='1.0' encoding='no-such'?><a/>", "cannot be read"),
        (b"<a>&undeclared;</a>", "cannot be read"),
    ],
)
def test_xml_that_is_not_harmless_is_refused(document, words):
    lost = read(native.native(OBJECTS, xml=document))[2]
    assert words in str(lost)


def test_the_parser_holds_no_endless_piece(monkeypatch):
    monkeypatch.setattr(xml, "_MAX_TOKEN", 1000)
    with pytest.raises(DamageError, match="a piece of more than 1,000 bytes"):
        xml.parse([b"<a b='", *([b"x" * 100] * 50), b"'/>"])


def test_text_of_many_lines_comes_in_few_pieces_and_lists_are_short():
    pieces = []
    xml.parse([b"<a>" + b"x\n" * 100_000 + b"</a>"], text=lambda _, piece: pieces.append(piece))
    assert "".join(pieces) == "x\n" * 100_000
    assert len(pieces) < 100
    document = b"<s><Imaging><Magnification>" + b"4 " * 501 + b"</Magnification></Imaging></s>"
    lost = read(native.native(OBJECTS, xml=document))[2]
    assert "Magnification in its acquisition XML has more than 1,000 characters" in str(lost)


def test_without_xml_the_channels_are_unknown():
    raw = native.native(OBJECTS, xml=b"<setup/>")
    assert "run.cif: its acquisition XML does not say which channels are in use; save it again" in str(read(raw)[2])


def test_a_number_without_end_is_refused():
    with pytest.raises(DamageError, match="a number of 2001 nibbles"):
        compression.decode_image(bytes([0xFF] * 1000 + [0x11] * 200), 10, 10, [slice(0, 10)])


@pytest.mark.parametrize("at_once", [11, 12, 13, 50, 1000])
def test_long_streams_are_decoded_in_pieces(monkeypatch, at_once):
    pixels = np.random.default_rng(0).integers(0, 65_536, (20, 30), np.uint16)
    stream = native.compress_image(pixels)
    monkeypatch.setattr(compression, "_AT_ONCE", at_once)
    np.testing.assert_array_equal(compression.decode_image(stream, 20, 30, [slice(10, 20)])[0], pixels[:, 10:20])
    with pytest.raises(DamageError, match="of 600 pixels"):
        compression.decode_image(stream[:-5], 20, 30, [slice(0, 10)])
    with pytest.raises(DamageError, match=r"a number of [\w ]+ nibbles"):
        compression.decode_image(stream[:900] + bytes([0xFF] * 600), 20, 30, [slice(0, 10)])


def test_the_largest_object_takes_no_more_memory_than_a_few_images():
    count, most = 12, 100_000
    # Each pixel in as many nibbles as a number may have.
    stream = bytes([0xFF] * 4 + [0x0F]) * (count * most // 3)
    entries, _ = native.image(0, np.zeros((200, 2_000), np.uint16), [0.0])
    entries |= {256: (4, [2_004]), 257: (4, [199]), 279: (4, [len(stream[: 5 * 2_004 * 199])])}
    channels = tuple(range(1, 13))
    header = native.header(1, xml=native.acquisition_xml(channels))
    file = NativeFile(io.BytesIO(native.pack([(header, b""), (entries, stream[: 5 * 2_004 * 199])])), "run.cif")
    tracemalloc.start()
    try:
        [cell] = [file.read(place, [1], most) for place in file.places()]
        assert tracemalloc.get_traced_memory()[1] < 30e6 + 4 * len(stream)
    finally:
        tracemalloc.stop()
    assert "which are no 16-bit counts" in str(cell)
    for limit, words in (
        (most // 3, "199x2004 px in 12 channels, which may have at most 133,332 px together"),
        (most // 4, "199x167 px, but an image may have at most 25,000 px"),
    ):
        refused = file.read(next(file.places()), [1], limit)
        assert (refused.code, str(refused)) == ("too_large", f"run.cif#0: {words}")


def test_values_that_look_like_tags_are_none():
    directories = native.parts(OBJECTS[:1], masks=False, xml=XML)
    lure = int.from_bytes(struct.pack("<HH", 33002, 33003), "little")
    directories[1][0].update({tag: (4, [lure]) for tag in range(100, 130)})
    [cell], refused, lost = read(native.pack(directories))
    assert (cell.facts.object, cell.facts.acquired_object, refused, lost) == (0, 100, [], None)


class FailingDisk(io.BytesIO):
    """A file whose second half cannot be read."""

    def read(self, size=-1):
        if self.tell() > len(WHOLE) // 2:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_disk_that_fails_is_an_error_of_the_file():
    file = NativeFile(FailingDisk(WHOLE), "run.cif", 512)
    with pytest.raises(ImageError, match=r"run\.cif: the objects from number \d on of 6 .* Input/output error"):
        list(file.places())


def test_pixels_beyond_sixteen_bits_are_refused():
    stream = native.compress_image(np.full((8, 8), 70_000))
    with pytest.raises(DamageError, match="from 70,000 to 70,000, which are no 16-bit counts"):
        compression.decode_image(stream, 8, 8, [slice(0, 8)])


def test_runs_beyond_the_mask_are_refused():
    with pytest.raises(DamageError, match="hold 512 of 100 pixels"):
        compression.decode_mask(bytes([1, 255, 0, 255]), 10, 10, [slice(0, 10)])


def damage(rng):
    """Return WHOLE with a few bytes, numbers or stretches changed, or without its end."""
    raw, starts = bytearray(WHOLE), offsets()
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.choice(starts)) + int(rng.integers(0, 400)) if rng.random() < 0.7 else int(rng.integers(len(raw)))
        at = min(at, len(raw) - 4)
        kind = rng.random()
        if kind < 0.5:
            raw[at] = int(rng.integers(256))
        elif kind < 0.9:
            value = int(rng.choice([0, 1, 8, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, len(raw), *starts]))
            raw[at : at + 4] = struct.pack("<I", value)
        else:
            del raw[at + 4 :]
            raw += bytes(4)
    return bytes(raw)


@pytest.mark.parametrize("seed", range(20))
def test_damage_gives_one_kind_of_error_and_little_memory(seed):
    rng = np.random.default_rng(seed)
    tracemalloc.start()
    try:
        for _ in range(40):
            cells, refused, lost = read(damage(rng))
            assert len(cells) + len(refused) <= 6
            for error in [*refused, *filter(None, [lost])]:
                assert str(error).startswith("run.cif")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6
