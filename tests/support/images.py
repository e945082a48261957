"""Made-up cells, and the files that they come in."""

import io
import struct

import numpy as np
import tifffile


def tiff(pixels, **kwargs):
    """Return the bytes of a TIFF file."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **kwargs)
    return buffer.getvalue()


def bare_tiff(pixels, bits, tags=(), order="<"):
    """Return the bytes of an uncompressed TIFF of one page for what tifffile does not write.

    `pixels` are the packed bytes of a page and its (height, width); `tags` are (number, type, values), and replace
    those that every page has.
    """
    data, (height, width) = pixels
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [1]), 273: (4, [0])}
    entries |= {277: (3, [1]), 278: (4, [height]), 279: (4, [len(data)])}
    entries |= {number: (kind, values) for number, kind, values in tags}
    behind = 8 + 2 + 12 * len(entries) + 4
    packed = {
        number: struct.pack(f"{order}{len(values)}{ {1: 'B', 2: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
        for number, (kind, values) in entries.items()
    }
    start = behind + sum(len(values) for values in packed.values() if len(values) > 4)
    packed[273] = struct.pack(f"{order}I", start)
    directory, values_behind = b"", b""
    for number, values in sorted(packed.items()):
        kind, count = entries[number][0], len(entries[number][1])
        inside = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(f"{order}I", behind + len(values_behind))
        directory += struct.pack(f"{order}HHI", number, kind, count) + inside
        values_behind += values if len(values) > 4 else b""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}IH", 8, len(entries))
    return head + directory + struct.pack(f"{order}I", 0) + values_behind + data


def draw_cell(rng, height=45, width=60, radius=12.0, level=700):
    """Return (height, width) uint16: a dark disc on a noisy background, nothing like a real cell but enough to find."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < radius
    return np.clip(rng.normal(level, 8, (height, width)) - 200 * inside, 0, 4095).astype(np.uint16)


def typical(seed, **how):
    """Return (45, 60) pixels of a cell of the kind that the bundles of the tests were made with."""
    return draw_cell(np.random.default_rng(seed), radius=6 + seed % 12, **how)
