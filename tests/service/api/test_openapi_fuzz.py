"""Every response is as the OpenAPI document describes it, and none is a 5xx, whatever the request."""

import io
import zipfile

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.images import draw_cell, tiff

pytestmark = pytest.mark.slow

# The same draws in every run, so that anyone can reproduce a failure.
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

STATUSES = {200, 400, 413, 422}

VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
GET = ("/models", "/card/{task}", "/examples/{task}", "/reference/{task}", "/sample/{task}")
POST = ("/classify", "/classify_batch", "/summarise", "/export", "/feedback")


# A GET request has nothing that could be invalid.
@pytest.mark.parametrize(
    ("path", "mode"), [*((path, VALID) for path in GET + POST), *((path, INVALID) for path in POST)]
)
def test_responses_agree_with_the_openapi_document(app, path, mode):
    [operation] = schemathesis.openapi.from_asgi("/openapi.json", app)[path].values()

    @given(case=operation.as_strategy(generation_mode=mode))
    @SETTINGS
    def send(case):
        # Random bytes are valid by the document, and no image.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    send()


def image(kind):
    buffer = io.BytesIO()
    pixels = draw_cell(np.random.default_rng(1))
    if kind == "TIFF":
        return tiff(pixels, compression="zlib")
    if kind == "PAGES":
        return tiff(np.stack([pixels] * 3), photometric="minisblack")
    if kind == "ZIP":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a_1d1_1_Ch1.ome.tif", tiff(pixels))
            archive.writestr("run/b.png", image("PNG"))
        return buffer.getvalue()
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: image(kind) for kind in ("TIFF", "PAGES", "PNG", "BMP", "JPEG", "ZIP")}


@st.composite
def damaged(draw):
    """Draw a file with a few bytes changed, removed or repeated."""
    raw = bytearray(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(draw(st.integers(1, 6))):
        # The beginning and the end hold the headers and directories.
        near = draw(st.integers(0, min(400, len(raw) - 1)))
        at = draw(st.sampled_from([near, len(raw) - 1 - near, draw(st.integers(0, len(raw) - 1))]))
        what = draw(st.sampled_from(["set", "set", "set", "cut", "double"]))
        if what == "set":
            raw[at] = draw(st.integers(0, 255))
        elif what == "cut" and len(raw) > 50:
            del raw[at : at + draw(st.integers(1, 100))]
        else:
            raw[at:at] = raw[at : at + 20]
    return bytes(raw)


@given(raw=damaged())
@settings(SETTINGS, max_examples=1500)
def test_damaged_files_do_not_break_the_service(client, raw):
    one = client.post("/classify", content=raw)
    assert one.status_code in STATUSES, one.text
    many = client.post("/classify_batch", files={"files": ("cells", raw)})
    assert many.status_code in STATUSES, many.text
    if many.status_code == 200:
        for cell in many.json()["cells"]:
            assert (cell.get("error") is None) != (cell.get("label") is None)


@given(names=st.lists(st.text(max_size=30), max_size=5), raw=st.binary(max_size=200))
@settings(SETTINGS, max_examples=60)
def test_odd_file_names_do_not_break_the_service(client, names, raw):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in {name.split("\0")[0].encode("utf-8", "ignore").decode() or "x" for name in names}:
            archive.writestr(f"../../{name}", WHOLE["TIFF"])
            archive.writestr(f"{name}/x", raw)
    for form in ("json", "csv", "parquet"):
        response = client.post("/classify_batch", params={"format": form}, content=buffer.getvalue())
        assert response.status_code in STATUSES, response.text
