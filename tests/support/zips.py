"""Zips as programs write them, and those that no program should."""

import io
import struct
import zipfile


def archive(files, prefix=b""):
    """Return a zip of (name, bytes) pairs after other bytes; a name of bytes is written without the flag for UTF-8."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for number, (_, raw) in enumerate(files):
            written.writestr(f"{number:04}", raw)
    whole = buffer.getvalue()
    for number, (name, _) in enumerate(files):
        whole = _renamed(whole, f"{number:04}".encode(), name)
    return prefix + whole


def _renamed(whole, old, name):
    """Return a zip with another name for the entry `old`, in its local header and in the directory."""
    raw, utf8 = (name, False) if isinstance(name, bytes) else (name.encode(), not name.isascii())
    end = whole.rfind(b"PK\x05\x06")
    size, start = struct.unpack_from("<II", whole, end + 12)
    local = start + whole[start:end].index(old)
    entry = whole.rindex(b"PK\x01\x02", start, local)
    [at] = struct.unpack_from("<I", whole, entry + 42)
    grown = len(raw) - len(old)
    head = bytearray(whole[at : at + 30])
    struct.pack_into("<H", head, 26, len(raw))
    body, directory = whole[at + 30 + len(old) : start], bytearray(whole[start:end])
    place = entry - start
    struct.pack_into("<H", directory, place + 28, len(raw))
    if utf8:
        head[7] |= 8
        directory[place + 9] |= 8
    directory[place + 46 : place + 46 + len(old)] = raw
    # What comes later in the file begins later.
    following = 0
    while following < len(directory):
        [offset] = struct.unpack_from("<I", directory, following + 42)
        if offset > at:
            struct.pack_into("<I", directory, following + 42, offset + grown)
        lengths = struct.unpack_from("<HHH", directory, following + 28)
        following += 46 + sum(lengths)
    tail = bytearray(whole[end:])
    struct.pack_into("<II", tail, 12, size + grown, start + grown)
    return whole[:at] + bytes(head) + raw + body + bytes(directory) + bytes(tail)


def with_extra(raw_name, extra):
    """Return a zip of one file whose name has no flag for UTF-8, and whose entry has these extra fields."""
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo("0000")
    entry.extra = extra
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr(entry, b"x")
    return _renamed(buffer.getvalue(), b"0000", raw_name)


def encrypted(whole, name):
    """Return a zip in which the entry `name` is marked as encrypted."""
    changed = bytearray(whole)
    place = whole.rindex(name.encode())
    changed[whole.rindex(b"PK\x01\x02", 0, place) + 8] |= 1
    return bytes(changed)


def linked(name, target):
    """Return a zip with one symbolic link."""
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr(entry, target)
    return buffer.getvalue()
