"""Whatever comes, the service answers as its OpenAPI document says, and never with a 5xx."""

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

# The same draws each time: a failure here must be one that anyone can repeat.
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

ANSWERS = {200, 400, 413, 422}


RIGHT, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
ASKED = ("/models", "/card/{task}", "/examples/{task}", "/reference/{task}", "/sample/{task}")
SENT = ("/classify", "/classify_batch", "/summarise", "/export", "/feedback")


# What is only asked for takes nothing that could be wrong.
@pytest.mark.parametrize(
    ("path", "mode"), [*((path, RIGHT) for path in ASKED + SENT), *((path, WRONG) for path in SENT)]
)
def test_the_service_does_as_its_document_says(client, path, mode):
    document = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    document.config.base_url = str(client.base_url)
    [operation] = document[path].values()

    @given(case=operation.as_strategy(generation_mode=mode))
    @SETTINGS
    def answered(case):
        # Random bytes are what the document allows, and no image.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    answered()


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
    """Draw a file in which a few bytes are others, or of which a part is missing or doubled."""
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
def test_damaged_files_are_answered(client, raw):
    one = client.post("/classify", content=raw)
    assert one.status_code in ANSWERS, one.text
    many = client.post("/classify_batch", files={"files": ("cells", raw)})
    assert many.status_code in ANSWERS, many.text
    if many.status_code == 200:
        for cell in many.json()["cells"]:
            assert (cell.get("error") is None) != (cell.get("label") is None)


@given(names=st.lists(st.text(max_size=30), max_size=5), raw=st.binary(max_size=200))
@settings(SETTINGS, max_examples=60)
def test_names_of_all_kinds_are_answered(client, names, raw):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in {each.split("\0")[0].encode("utf-8", "ignore").decode() or "x" for each in names}:
            archive.writestr(f"../../{name}", WHOLE["TIFF"])
            archive.writestr(f"{name}/x", raw)
    for form in ("json", "csv", "parquet"):
        answer = client.post("/classify_batch", params={"format": form}, content=buffer.getvalue())
        assert answer.status_code in ANSWERS, answer.text
