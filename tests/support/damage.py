"""Whole files of every kind that is read, and strategies for damaged ones."""

import io
import struct
import zipfile

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.support.images import draw_cell, tiff

PIXELS = draw_cell(np.random.default_rng(1))
SMALL = draw_cell(np.random.default_rng(2), 12, 10, 3)


def pillow(pixels, kind, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def archive(files, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        for name, raw in files.items():
            packed.writestr(name, raw)
    return buffer.getvalue()


def kinds(pixels):
    """Return a file of each kind with these pixels."""
    grey, stack = (pixels >> 4).astype(np.uint8), np.stack([pixels] * 3)
    return {
        "TIFF": tiff(pixels, compression="zlib"),
        "LZW": tiff(grey, compression="lzw", predictor=True),
        "BIG ENDIAN": tiff(pixels, byteorder=">", description='<Pixels SignificantBits="12"/>'),
        "TILES": tiff(np.tile(pixels, (2, 2))[:16, :16], tile=(16, 16), compression="packbits"),
        "LARGE TILES": tiff(pixels, tile=(256, 256), compression="zlib"),
        "COLOURS": tiff(np.stack([grey] * 3, -1), photometric="rgb"),
        "FLOATS": tiff(pixels.astype(np.float32)),
        "BIGTIFF": tiff(pixels, bigtiff=True),
        "PAGES": tiff(stack, photometric="minisblack"),
        "PNG": pillow(grey, "PNG"),
        "PNG 16": pillow(pixels, "PNG"),
        "PALETTE": pillow(grey, "PNG", "P"),
        "BITS": pillow(grey, "PNG", "1"),
        "BMP": pillow(grey, "BMP"),
        "JPEG": pillow(grey, "JPEG"),
    }


def zips(pixels):
    """Return archives of such files, by compression."""
    files = {"a_1d1_1_Ch1.ome.tif": tiff(pixels), "run/b.png": kinds(pixels)["PNG"]}
    return {
        "ZIP": archive(files),
        "STORED": archive(files, zipfile.ZIP_STORED),
        "BZIP2": archive(files, zipfile.ZIP_BZIP2),
        "LZMA": archive(files, zipfile.ZIP_LZMA),
    }


@st.composite
def damaged(draw, whole):
    """Draw a file with a few bytes changed, removed or repeated."""
    raw = bytearray(whole[draw(st.sampled_from(sorted(whole)))])
    for _ in range(draw(st.integers(1, 6))):
        # The beginning and the end hold the headers and directories.
        near = draw(st.integers(0, min(400, len(raw) - 1)))
        at = draw(st.sampled_from([near, len(raw) - 1 - near, draw(st.integers(0, len(raw) - 1))]))
        what = draw(st.sampled_from(["set", "set", "set", "number", "cut", "double"]))
        if what == "set":
            raw[at] = draw(st.integers(0, 255))
        elif what == "number":
            # Counts and offsets at the limits of their types.
            value = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, len(raw)]))
            written = struct.pack(draw(st.sampled_from("<>")) + "I", value)[: len(raw) - at]
            raw[at : at + len(written)] = written
        elif what == "cut" and len(raw) > 150:
            del raw[at : at + draw(st.integers(1, 100))]
        else:
            raw[at:at] = raw[at : at + 20]
    return bytes(raw)


@st.composite
def odd_names(draw):
    """Draw the names of an archive's entries: text of any script, that leads elsewhere, or is no text at all."""
    parts = st.one_of(st.text(max_size=12), st.sampled_from(["..", ".", "", "/", "\\", "C:", "~", "__MACOSX", "a\nb"]))
    names = draw(st.lists(st.lists(parts, min_size=1, max_size=4).map("/".join), min_size=1, max_size=5))
    # As far as `zipfile` can write them.
    return [name.encode("utf-8", "ignore").decode().split("\0")[0] or "x" for name in names]
