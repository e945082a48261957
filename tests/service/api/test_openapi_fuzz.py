"""Every response is as the OpenAPI document describes it, and none is a 5xx, whatever the request."""

import io
import zipfile

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from tests.support import damage, fuzzing

pytestmark = pytest.mark.slow

STATUSES = {200, 400, 413, 422}

VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
GET = ("/models", "/card/{task}", "/examples/{task}", "/reference/{task}", "/sample/{task}")
POST = (
    "/classify",
    "/classify_batch",
    "/classify_slices",
    "/explain",
    "/explain_slices",
    "/summarise",
    "/compare",
    "/export",
    "/feedback",
)


@pytest.mark.fuzz
# A GET request has nothing that could be invalid.
@pytest.mark.parametrize(
    ("path", "mode"), [*((path, VALID) for path in GET + POST), *((path, INVALID) for path in POST)]
)
def test_responses_agree_with_the_openapi_document(app, path, mode):
    [operation] = schemathesis.openapi.from_asgi("/openapi.json", app)[path].values()

    @given(case=operation.as_strategy(generation_mode=mode))
    @fuzzing.settings(40)
    def request(case):
        # Random bytes are valid by the document, and no image.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    request()


WHOLE = {
    kind: raw for kind, raw in damage.kinds(damage.PIXELS).items() if kind in {"TIFF", "PAGES", "PNG", "BMP", "JPEG"}
}
WHOLE |= {"ZIP": damage.zips(damage.PIXELS)["ZIP"]}


def send(client, raw):
    one = client.post("/classify", content=raw)
    assert one.status_code in STATUSES, one.text
    many = client.post("/classify_batch", files={"files": ("cells", raw)})
    assert many.status_code in STATUSES, many.text
    if many.status_code == 200:
        for cell in many.json()["cells"]:
            assert (cell.get("error") is None) != (cell.get("label") is None)


@pytest.mark.parametrize("path", [*fuzzing.corpus("images"), *fuzzing.corpus("archives")], ids=lambda path: path.name)
def test_what_once_failed_does_not_break_the_service(client, path):
    send(client, path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(WHOLE))
@fuzzing.settings(1500)
def test_damaged_files_do_not_break_the_service(client, raw):
    with fuzzing.kept(raw, "archives" if raw[:2] == b"PK" else "images"):
        send(client, raw)


@pytest.mark.fuzz
@given(names=st.lists(st.text(max_size=30), max_size=5), raw=st.binary(max_size=200))
@fuzzing.settings(60)
def test_odd_file_names_do_not_break_the_service(client, names, raw):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in {name.split("\0")[0].encode("utf-8", "ignore").decode() or "x" for name in names}:
            archive.writestr(f"../../{name}", WHOLE["TIFF"])
            archive.writestr(f"{name}/x", raw)
    for form in ("json", "csv", "parquet"):
        response = client.post("/classify_batch", params={"format": form}, content=buffer.getvalue())
        assert response.status_code in STATUSES, response.text
