"""Vectors that hold the JavaScript of the page to Python: `python -m tests.support.page_vectors` writes them.

`tests/page/private/*.json`. Files are in base64; pixels are the SHA-256 of their values as little-endian uint16.
"""

import base64
import csv
import hashlib
import io
import json

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from fatescope.data import cell_quality, images, quality_gate
from fatescope.data.crops import center, cut
from fatescope.data.images import read_headers
from fatescope.data.native.names import is_native
from fatescope.data.native.reader import NativeFile
from fatescope.errors import ImageError
from fatescope.inference import bundle, composition
from fatescope.inference.classification import MAX_PIXELS
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.uncertainty import Prediction, assess_prediction, coarse_calls
from service.api import formats, spreadsheet
from tests.support import native
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import bare_tiff, tiff, typical
from tests.support.pictures import brightfield
from tests.support.project import ROOT

FOLDER = ROOT / "tests" / "page" / "private"
CORPUS = ROOT / "tests" / "corpus" / "native"
OUTLIERS = COMMITTED / "multiclass" / bundle.OUTLIERS
_OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels SignificantBits="{}"/></Image></OME>'
)


def digest(pixels):
    """Return the hash by which both sides compare (H, W) pixels."""
    return hashlib.sha256(np.ascontiguousarray(pixels, "<u2").tobytes()).hexdigest()


def image_files():
    """Return name → bytes of images that people have, and of some that must be refused."""
    cell = typical(1)
    small = (cell >> 4).astype(np.uint8)
    grey = np.repeat(small[..., None], 3, 2)
    files = {
        "plain.tif": tiff(cell),
        "plain8.tif": tiff(small),
        "big-endian.tif": tiff(cell, byteorder=">"),
        "bigtiff.tif": tiff(cell, bigtiff=True),
        "strips.tif": tiff(cell, rowsperstrip=7),
        "described.ome.tif": tiff(cell, description=_OME.format(12), metadata=None),
        "pages.tif": tiff(np.stack([typical(seed) for seed in range(3)]), photometric="minisblack", metadata=None),
        "rgb.tif": tiff(grey, photometric="rgb"),
        "colour.tif": tiff(np.stack([small, small + 1, small], -1), photometric="rgb"),
        "white-is-zero.tif": tiff(small, photometric="miniswhite"),
        "signed.tif": tiff(cell.astype(np.int16)),
        "turned.tif": tiff(cell, extratags=[(274, 3, 1, 6, True)]),
        "mirrored.tif": tiff(cell, extratags=[(274, 3, 1, 2, True)]),
        "tiny.tif": tiff(cell[:6]),
        "large.tif": tiff(typical(2, height=90, width=75)),
        "tiles.tif": tiff(cell, tile=(32, 32)),
        "float.tif": tiff(cell.astype(np.float32)),
        "twelve-bits.tif": bare_tiff((bytes(45 * 90), (45, 60)), 12),
        "imagej.tif": _imagej(cell),
        "imagej-described-once.tif": _imagej(cell, truncate=True),
        "grey-palette.tif": _palette(small, np.repeat(np.arange(256) * 257, 3).reshape(256, 3)),
        "colour-palette.tif": _palette(small, np.stack([np.arange(256) * 257, np.arange(256), np.arange(256)], 1)),
        "ends-early.tif": tiff(cell)[:-500],
        "plain.png": imagecodecs.png_encode(cell),
        "plain8.png": imagecodecs.png_encode(small),
        "rgb.png": imagecodecs.png_encode(grey),
        "rgb16.png": imagecodecs.png_encode(np.repeat(cell[..., None], 3, 2)),
        "opaque.png": imagecodecs.png_encode(np.concatenate([grey, np.full_like(grey[..., :1], 255)], -1)),
        "transparent.png": imagecodecs.png_encode(np.concatenate([grey, grey[..., :1]], -1)),
        "damaged.png": _flipped(imagecodecs.png_encode(cell), 200),
        "ends-early.png": imagecodecs.png_encode(cell)[:400],
        "palette.png": _saved(Image.fromarray(small // 16 * 16).quantize(16), "PNG"),
        "plain.bmp": _saved(Image.fromarray(small), "BMP"),
        "rgb.bmp": _saved(Image.fromarray(grey), "BMP"),
        "colour.bmp": _saved(Image.fromarray(np.stack([small, small, small + 1], -1)), "BMP"),
        "palette-too-large.bmp": _changed(_saved(Image.fromarray(small), "BMP"), 49, 2),
        "header-unknown.bmp": _changed(_saved(Image.fromarray(small), "BMP"), 15, 2),
        "bits.bmp": _saved(Image.fromarray(small > 40), "BMP"),
        "photo.jpg": _saved(Image.fromarray(small), "JPEG"),
        "text.tif": b"no image at all",
        "empty.tif": b"",
    }
    for name, code in (("lzw", 5), ("deflate", 8), ("packbits", 32773)):
        for bits, pixels in ((8, small), (16, cell)):
            files[f"{name}{bits}.tif"] = _compressed(pixels, code)
    for bits, pixels in ((8, small), (16, cell)):
        files[f"lzw{bits}-predictor.tif"] = tiff(pixels, compression="lzw", predictor=True, rowsperstrip=16)
        files[f"deflate{bits}-predictor.tif"] = tiff(pixels, compression="deflate", predictor=True)
    noise = np.random.default_rng(0).integers(0, 65536, (60, 80)).astype(np.uint16)
    files["lzw-many-codes.tif"] = tiff(noise, compression="lzw")
    return files


def _compressed(pixels, code):
    return tiff(pixels, compression=code, predictor=False, rowsperstrip=11)


def _imagej(cell, **how):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([cell] * 3), imagej=True, **how)
    return buffer.getvalue()


def _palette(indices, colours):
    return tiff(indices, photometric="palette", colormap=colours.T.astype(np.uint16))


def _saved(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _flipped(raw, at):
    return _changed(raw, at, raw[at] ^ 1)


def _changed(raw, at, value):
    return raw[:at] + bytes([value]) + raw[at + 1 :]


UNSUPPORTED = {"tiles.tif", "twelve-bits.tif", "imagej-described-once.tif", "header-unknown.bmp", "photo.jpg"}
"""What the page leaves to the service."""


def decoded(raw, name):
    """Return what Python makes of a file: of each page its size, depth and pixels, or the code of the error."""
    try:
        headers = read_headers(raw, name)
    except ImageError as error:
        return {"error": error.code}
    return {"pages": [_page(page, name) for page in images.decode_pages(raw, headers, name, MAX_PIXELS)]}


def _page(page, name):
    if isinstance(page, ImageError):
        return {"error": page.code}
    header, pixels = page
    placed = center(cut(pixels, CANVAS), CANVAS, name)
    size = {"height": header.height, "width": header.width, "bits": header.bit_depth}
    return {**size, "pixels": digest(pixels), "placed": digest(placed)}


def image_vectors():
    """Return images with what Python makes of them."""
    return [
        {"name": name, "file": base64.b64encode(raw).decode(), "unsupported": name in UNSUPPORTED, **decoded(raw, name)}
        for name, raw in image_files().items()
    ]


def native_files():
    """Return name → bytes of native files, and of some that are damaged."""
    drawn = native.draw_objects(4, (1, 4), seed=4)
    noisy = native.draw_objects(2, (1, 4), seed=5, noise=900.0)
    lamp = native.acquisition_xml((1, 4), (4,))
    whole = native.pack(native.parts(drawn, xml=native.acquisition_xml((1, 4), (1,)), numbers=[0, 2, 4, 6]))
    broken = native.parts(drawn, xml=native.acquisition_xml((1, 4), (1,)))
    broken[3][0][279] = (4, [5])
    return {
        "whole.cif": whole,
        "raw.rif": native.pack(native.parts(noisy, masks=False, xml=native.acquisition_xml((1, 4), (1,)))),
        "other-lamp.cif": native.pack(native.parts(drawn, xml=lamp)),
        "no-lamp.cif": native.pack(native.parts(drawn, xml=native.acquisition_xml((2, 4), ()))),
        "broken-object.cif": native.pack(broken),
        "ends-early.cif": whole[: len(whole) * 2 // 3],
        "no-object.cif": native.pack(native.parts([])),
        "no-header.cif": tiff(typical(1)),
        **{path.name: path.read_bytes() for path in sorted(CORPUS.iterdir()) if is_native(path.name)},
    }


def decoded_native(raw, name):
    """Return what Python makes of the objects of a native file for a model of channel 1."""
    found, objects = [], None
    try:
        file = NativeFile(io.BytesIO(raw), name)
        objects = file.acquisition.objects
        [channel] = file.choose_channels(("1",), ("brightfield",))
        for place in file.places():
            read = file.read(place, (channel,), MAX_PIXELS)
            known = {"object": place.object}
            found.append(known | ({"error": read.code} if isinstance(read, ImageError) else _object(read)))
        if not found:
            found.append({"error": "empty"})
    except ImageError as error:
        found.append({"error": error.code})
    return {"objects": objects, "cells": found}


def _object(read):
    [pixels] = read.images
    return {"height": pixels.shape[0], "width": pixels.shape[1], "pixels": digest(pixels)}


def native_vectors():
    """Return native files with what Python makes of them."""
    return [
        {"name": name, "file": base64.b64encode(raw).decode(), **decoded_native(raw, name)}
        for name, raw in native_files().items()
    ]


def quality():
    """Return crops with the features and reasons of Python, for gates that some are outside of."""
    rng = np.random.default_rng(11)
    crops = [typical(seed, level=700 + 10 * seed) for seed in range(12)]
    noise = np.clip(rng.normal(700, 8, (30, 34)), 0, 4095).astype(np.uint16)
    off_centre = np.roll(typical(5), 28, axis=1)
    pair = np.minimum(np.roll(typical(3), 11, axis=1), np.roll(typical(4), -11, axis=1))
    ring = typical(11)
    ring[20:26, 27:33] = 700
    bright = typical(6)
    bright[10:20, 10:30] = 4095
    whip = typical(2)
    whip[22:24, 20:58] = 400
    crops += [noise, off_centre, pair, ring, bright, whip, np.full((20, 20), 9, np.uint16), (typical(1) >> 4)]
    crops += [brightfield(rng) for _ in range(4)]
    depths = [12] * len(crops)
    features = cell_quality.measure(crops, depths)
    area, aspect, gradient, contact, _ = np.median(features, axis=0)
    gate = quality_gate.QualityGate(
        min_gradient_rms=0.8 * gradient, doublet_area=1.0, doublet_aspect_ratio=-2.0,
        max_doublet=np.log(area) - 2 * aspect + 0.6, min_area=0.5 * area, max_border_contact=contact + 0.1,
        max_saturation=0.01,
    )  # fmt: skip
    reasons = quality_gate.reasons(gate.outside(features))
    return {
        "gate": gate.model_dump(),
        "bits": 12,
        "cells": [
            {"shape": crop.shape, "pixels": packed(crop), "features": row.tolist(), "reasons": why}
            for crop, row, why in zip(crops, features, reasons, strict=True)
        ],
    }


def packed(pixels):
    """Return pixels as little-endian uint16 in base64."""
    return base64.b64encode(np.ascontiguousarray(pixels, "<u2").tobytes()).decode()


def assessments():
    """Return logits and embeddings with their answers, for the committed outliers and made-up thresholds."""
    rng = np.random.default_rng(3)
    outliers = MahalanobisDetector.load(OUTLIERS)
    count, classes, (known, size) = 40, 4, outliers.means.shape
    logits = rng.normal(0, 2, (count, classes)).astype(np.float32)
    embedding = (outliers.means[np.arange(count) % known] + rng.normal(0, 1, (count, size)) * 0.3).astype(np.float32)
    embedding = np.float32(embedding.round(4))
    conformal = [0.2, 0.1, 0.3, 0.25]
    threshold = float(np.median(outliers.score(embedding))) * 1.05
    prediction = Prediction.of(logits, embedding)
    found = assess_prediction(prediction, conformal, threshold, outliers)
    hierarchy = {"N": ["A", "C"], "M": ["B", "D"]}
    thresholds = {"N": 0.75}
    coarse, older = (coarse_calls(found, ["A", "B", "C", "D"], hierarchy, known) for known in (thresholds, None))
    return {
        "outliers": base64.b64encode(OUTLIERS.read_bytes()).decode(),
        "conformal": conformal,
        "threshold": threshold,
        "hierarchy": hierarchy,
        "coarse_thresholds": thresholds,
        "cells": [
            {
                "logits": logits[row].tolist(),
                "embedding": embedding[row].tolist(),
                "probabilities": found.probabilities[row].tolist(),
                "set": found.sets[row].tolist(),
                "distance": float(found.distance[row]),
                "verdict": str(found.verdicts[row]),
                "coarse": coarse[row] and coarse[row]._asdict(),
                "coarse_without_thresholds": older[row] and older[row]._asdict(),
            }
            for row in range(count)
        ],
    }


def compositions():
    """Return probabilities of cells with the composition of their culture."""
    rng = np.random.default_rng(5)
    vectors = []
    for classes, cells in ((2, 1), (2, 60), (3, 400), (4, 25), (4, 300)):
        probabilities = np.float32(rng.dirichlet(np.full(classes, 0.4), cells))
        prior = rng.dirichlet(np.full(classes, 20))
        error = np.diag(rng.uniform(0, 0.002, classes))
        found = composition.estimate(probabilities, prior, error)
        vectors.append(
            {
                "probabilities": probabilities.tolist(),
                "prior": prior.tolist(),
                "error": error.tolist(),
                **{name: getattr(found, name).tolist() for name in ("shares", "low", "high")},
            }
        )
    return vectors


def table():
    """Return results with their CSV, and texts that spreadsheets would change."""
    cell = {"sample": None, "file": "a_1.tif", "page": None, "object": 3}
    answer = {
        "label": "A",
        "probabilities": {"A": float(np.float32(0.9)), "B,x": 1.5e-08},
        "conformal_set": ["A", "B,x"],
        "coarse": {"label": "C", "probability": 0.875},
        "verdict": "unsure",
        "quality": None,
        "warnings": [{"code": "size", "message": "m"}, {"code": "cut", "message": "m"}],
    }
    error = {"code": "truncated", "message": 'a "bad" file,\nreally', "file": "b.tif"}
    results = {
        "model": {"name": "fatescope-binary", "version": "3e5"},
        "task": "binary",
        "sample": {"called": {"A": 1, "B,x": 0}},
        "hierarchy": {"C": ["A", "B,x"]},
        "cells": [
            {**cell, **answer},
            {**cell, **answer, "sample": "3-4", "page": 2, "coarse": None, "quality": ["focus"], "warnings": []},
            {**cell, "file": "=b.tif", "object": None, "error": error},
        ],
    }
    texts = ["=1", "+a", "may 3", "3.4", "007", "1e5", "12:30", "März 2", "run 1", "a-1", "2024-01-02", "1" * 16, "x,y"]
    text = formats.FORMATS["csv"].write(results).body.decode("utf-8")
    assert list(csv.reader(io.StringIO(text)))
    return {"results": results, "csv": text, "guarded": [[one, spreadsheet.guard(one)] for one in texts]}


VECTORS = {
    "images": image_vectors,
    "native": native_vectors,
    "quality": quality,
    "assessments": assessments,
    "compositions": compositions,
    "table": table,
}
"""Name of a file, without its suffix → what makes its content."""


def main():
    """Write all vectors."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in VECTORS.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(make(), ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
