"""What a zip holds, whoever packed it."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from fatescope.data import archives
from tests.support.images import tiff
from tests.support.zips import archive, encrypted, linked, with_extra


def members(whole):
    with archives.open_zip(io.BytesIO(whole)) as file:
        return archives.list_members(file)


def paths(whole):
    return [member.path for member in members(whole)]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("Größe/1.tif", "Größe/1.tif"),
        ("Größe/1.tif".encode(), "Größe/1.tif"),
        ("Gro\u0308ße/1.tif".encode(), "Größe/1.tif"),
        ("Größe/1.tif".encode("cp437"), "Größe/1.tif"),
        ("pâte_né/1.tif".encode("cp437"), "pâte_né/1.tif"),
        ("サンプル/1.tif".encode(), "サンプル/1.tif"),
        ("サンプル/1.tif".encode("cp932"), "サンプル/1.tif"),
        ("細胞1/1.tif".encode("cp932"), "細胞1/1.tif"),
        (b"export\\a_1d1\\1.tif", "export/a_1d1/1.tif"),
        (b"./a//1.tif", "a/1.tif"),
    ],
)
def test_names_are_read_in_the_code_page_of_the_machine_that_wrote_them(written, path):
    assert paths(archive([(written, b"x"), ("other.tif", b"y")])) == [path, "other.tif"]


def field(kind, content):
    return struct.pack("<HH", kind, len(content)) + content


GERMAN = "grün/1.tif".encode("cp437")
RUSSIAN = "зелёный/1.tif".encode()


def unicode_path(named, path=RUSSIAN):
    """Return an Info-ZIP Unicode Path field: the version, the CRC of the name that it stands for, and the path."""
    return field(0x7075, struct.pack("<BI", 1, zlib.crc32(named)) + path)


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        (unicode_path(GERMAN), "зелёный/1.tif"),
        (field(0x5455, b"\1" + bytes(4)) + unicode_path(GERMAN), "зелёный/1.tif"),
        # Somebody has renamed the entry with a program that knows nothing of the field.
        (unicode_path(b"another name"), "grün/1.tif"),
        (unicode_path(b"another name") + unicode_path(GERMAN), "зелёный/1.tif"),
        (field(0x7076, unicode_path(GERMAN)[4:]), "grün/1.tif"),
        (field(0x7075, unicode_path(GERMAN)[4:9]), "grün/1.tif"),
        (b"", "grün/1.tif"),
    ],
    ids=["right", "second", "wrong CRC", "wrong and right", "another kind", "without a path", "none"],
)
def test_a_unicode_path_holds_where_it_is_of_this_name(extra, path):
    assert paths(with_extra(GERMAN, extra)) == [path]


def test_what_dos_calls_a_folder_is_none_where_it_has_content():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, flag, content in (("folder", 0x10, b""), ("empty", 0x20, b""), ("cell", 0x10, b"x")):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = flag
            written.writestr(entry, content)
    assert paths(buffer.getvalue()) == ["empty", "cell"]


def test_a_zip_with_an_entry_that_has_no_name_is_damaged():
    with pytest.raises(zipfile.BadZipFile, match="an entry has no name"):
        archives.open_zip(io.BytesIO(archive([("a.tif", b"x"), ("", b"y")])))


def test_folders_and_files_of_systems_are_left_out():
    files = [(name, b"x") for name in ("s/Thumbs.db", "s/.DS_Store", "__MACOSX/s/._a.tif", "s/~$n.docx", "s/a.tif")]
    assert paths(archive([("s/", b""), ("empty\\", b""), *files])) == ["s/a.tif"]


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        (archive([("/a.tif", b"x")]), "leads out of the zip"),
        (archive([("run/../../a.tif", b"x")]), "leads out of the zip"),
        (archive([(b"..\\a.tif", b"x")]), "leads out of the zip"),
        (archive([("C:\\a.tif", b"x")]), "leads out of the zip"),
        (archive([(".", b"x")]), "an entry is called '.', which is no name of a file"),
        (archive([("./.", b"x")]), "an entry is called './.', which is no name of a file"),
        (linked("a.tif", "/etc/passwd"), "a link"),
        (encrypted(archive([("a.tif", b"x")]), "a.tif"), "encrypted; create the zip without a password"),
        (archive([("run/inner.ZIP", b"x")]), "zip in a zip; unpack it first"),
        (archive([("a.tif", b"x"), ("a.tif", b"y")]), "holds 'a.tif' twice"),
        (archive([("s/a.tif", b"x"), (b"s\\a.tif", b"y")]), "holds 's/a.tif' twice"),
    ],
)
def test_an_entry_that_must_not_be_read_says_why(whole, problem):
    [member] = members(whole)
    assert problem in member.problem


def test_an_ordinary_entry_has_no_problem():
    [member] = members(archive([("run..1/a..b.tif", b"x")]))
    assert member.problem == ""


@pytest.mark.parametrize("prefix", [b"", b"MZ" + bytes(60), b"From: lab@example.org\r\n\r\n"])
def test_a_zip_is_one_whatever_comes_before_it(prefix):
    whole = archive([("s/a.tif", b"cell")], prefix)
    assert archives.is_zip(io.BytesIO(whole))
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        assert [file.read(member.entry) for member in archives.list_members(file)] == [b"cell"]


@pytest.mark.parametrize("at", [0, 1, 50])
@pytest.mark.parametrize("prefix", [b"", b"MZ" + bytes(60)])
def test_a_zip_is_told_and_then_read_from_its_beginning_wherever_the_file_stands(prefix, at):
    file = io.BytesIO(archive([("a.tif", b"x")], prefix))
    file.seek(at)
    assert archives.is_zip(file)
    assert file.tell() == 0
    # Read from another place, it would be no image, and a zip by the directory at its end.
    image = io.BytesIO(tiff(np.zeros((10, 10), np.uint8)) + file.getvalue())
    image.seek(at)
    assert not archives.is_zip(image)
    assert image.tell() == 0


def test_an_image_is_no_zip_whatever_its_pixels_hold():
    image = tiff(np.frombuffer(archive([("a.tif", b"x" * 30)])[:100], np.uint8).reshape(10, 10))
    assert not archives.is_zip(io.BytesIO(image + archive([("a.tif", b"x")])))
    assert not archives.is_zip(io.BytesIO(b"fed on monday"))
    assert not archives.is_zip(io.BytesIO(b""))


def test_half_a_zip_is_a_damaged_zip():
    whole = archive([("a.tif", b"x")])
    assert archives.is_zip(io.BytesIO(whole[: len(whole) // 2]))


def test_the_last_part_of_several_is_a_damaged_zip():
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 2)
    file = io.BytesIO(b"MZ" + bytes(60) + locator + b"PK\x05\x06" + bytes(18))
    assert archives.is_zip(file)
    assert file.tell() == 0
    with pytest.raises(zipfile.BadZipFile, match="span multiple disks"):
        archives.open_zip(file)


def test_a_name_that_no_file_can_have_is_a_problem():
    [member] = members(archive([("a" * 256 + ".tif", b"x")]))
    assert "has 260 characters, which no file can have" in member.problem


def read_both(whole):
    """Return the contents of all entries, or the errors, by `archives.read` and by zipfile."""
    both = []
    for read in (archives.read, lambda file, entry: file.read(entry)):
        with zipfile.ZipFile(io.BytesIO(whole)) as file:
            found = []
            for entry in file.infolist():
                try:
                    found.append(read(file, entry))
                except archives.DAMAGE as error:
                    found.append((type(error), str(error)))
            both.append(found)
    return both


def zipped(names=("a.tif", "b.tif"), method=zipfile.ZIP_STORED, stream=False):
    buffer = io.BytesIO()
    target = Unseekable(buffer) if stream else buffer
    with zipfile.ZipFile(target, "w", method) as file:
        for number, name in enumerate(names):
            file.writestr(name, bytes(range(256)) * (number + 1))
    return buffer.getvalue()


class Unseekable:
    """A file that can only be written on, so that sizes follow the content."""

    def __init__(self, buffer):
        self.write, self.flush = buffer.write, buffer.flush


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [b"", b"a mail program wrote this"])
def test_entries_are_read_as_by_zipfile(method, stream, before, monkeypatch):
    whole = before + zipped(("a.tif", "größe.tif", "empty/"), method, stream)
    ours, theirs = read_both(whole)
    assert ours == theirs
    assert ours[0] == bytes(range(256))
    if method != zipfile.ZIP_BZIP2:
        with monkeypatch.context() as small:
            small.setattr(archives, "_PLAIN_BYTES", 255)
            assert read_both(whole)[0] == theirs, "of large entries"
        monkeypatch.setattr(zipfile.ZipFile, "read", None)
        with zipfile.ZipFile(io.BytesIO(whole)) as file:
            assert archives.read(file, file.infolist()[0]) == bytes(range(256)), "without zipfile"


@pytest.mark.parametrize("method", METHODS[:2])
def test_entries_with_any_byte_changed_are_read_or_refused_as_by_zipfile(method):
    whole = zipped(("a.tif",), method)
    refused = 0
    for place in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= change
            try:
                ours, theirs = read_both(bytes(damaged))
            except archives.DAMAGE:  # its directory cannot be read
                continue
            assert ours == theirs, (place, change)
            refused += isinstance(theirs[0], tuple) if theirs else 0
    assert refused > 100


def test_an_entry_that_holds_more_than_it_announces_is_refused_as_by_zipfile():
    whole = bytearray(zipped(("a.tif",), zipfile.ZIP_DEFLATED))
    directory = whole.rindex(b"PK\x01\x02")
    struct.pack_into("<I", whole, directory + 24, 10)
    ours, theirs = read_both(bytes(whole))
    assert ours == theirs
    assert ours[0][0] is zipfile.BadZipFile
