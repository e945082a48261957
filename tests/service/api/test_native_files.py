"""Native files of instruments in a request: their objects are classified as their images would be."""

import io
import zipfile

import fcsparser
import numpy as np

from tests.support import native
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

NUMBERS = [2, 3, 5, 7, 11]
OBJECTS = [(np.stack([typical(i), typical(i) // 2]), np.zeros((2, 45, 60), np.uint8)) for i in range(5)]
XML = native.acquisition_xml((3, 4), (3,))
RAW = native.native(OBJECTS, xml=XML, numbers=NUMBERS)


def classify(client, files, **query):
    parts = [("files", (name, raw)) for name, raw in files.items()]
    return client.post("/classify_batch", files=parts, params=query).raise_for_status()


def test_objects_get_the_predictions_of_their_images(client):
    response = classify(client, {"a_1d1_Ch4.cif": RAW, **{f"{i}.tif": tiff(typical(i)) for i in range(5)}}).json()
    cells = response["cells"]
    assert [cell["object"] for cell in cells[:5]] == NUMBERS
    assert {(cell["file"], cell["page"]) for cell in cells[:5]} == {("a_1d1_Ch4.cif", None)}
    for cell, image in zip(cells[:5], cells[5:], strict=True):
        assert cell["label"] == image["label"]
        np.testing.assert_allclose(
            list(cell["probabilities"].values()), list(image["probabilities"].values()), atol=1e-5
        )
    assert response["sample"]["cells"] == 10


def test_as_the_body_in_a_zip_and_under_any_name(client):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("lab/run.rif", RAW)
    as_body = client.post("/classify_batch", content=RAW).raise_for_status().json()
    in_zip = classify(client, {"all.zip": buffer.getvalue()}).json()
    renamed = classify(client, {"cells.tif": RAW}).json()
    for response in (as_body, in_zip, renamed):
        assert [cell["object"] for cell in response["cells"]] == NUMBERS
    assert in_zip["cells"][0]["file"] == "lab/run.rif"
    assert in_zip["cells"][0]["sample"] == "lab"


def test_fcs_keeps_the_object_numbers(client, tmp_path):
    (tmp_path / "x.fcs").write_bytes(classify(client, {"run.cif": RAW}, format="fcs").content)
    _, events = fcsparser.parse(str(tmp_path / "x.fcs"))
    assert events["object"].tolist() == NUMBERS


def test_details_show_the_object(client):
    cell = classify(client, {"run.cif": RAW}, details=True).json()["cells"][0]
    assert cell["thumbnail"]
    assert cell["figures"][-2:] == [45, 60]


def test_a_damaged_object_is_named_and_the_others_are_answered(client):
    directories = native.parts(OBJECTS, xml=XML, numbers=NUMBERS)
    directories[5][0][279] = (4, [5])
    cells = classify(client, {"run.cif": native.pack(directories)}).json()["cells"]
    assert ["error" in cell for cell in cells] == [False, False, True, False, False]
    assert (cells[2]["object"], cells[2]["error"]["code"]) == (5, "truncated")
    assert cells[2]["error"]["message"].startswith("run.cif#5: ")


def test_what_is_no_native_file_has_its_reason(client):
    [cell] = classify(client, {"run.cif": b"junk"}).json()["cells"]
    assert cell["error"]["code"] == "not_an_image"
    assert "whose header cannot be read: it starts with b'junk'" in cell["error"]["message"]
    dark = native.native(OBJECTS, xml=native.acquisition_xml((3, 4), ()))
    [cell] = classify(client, {"run.cif": dark}).json()["cells"]
    assert cell["error"]["code"] == "channels"


def test_one_image_is_what_classify_takes(client):
    response = client.post("/classify", files={"image": ("run.cif", RAW)})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "not_an_image"
    assert "send it to /classify_batch" in response.json()["error"]["message"]


def test_a_file_of_more_objects_than_a_request_may_have(bundles, tmp_path):
    with application(tmp_path, bundles, max_cells=4) as app, connected(app) as client:
        response = client.post("/classify_batch", files={"files": ("run.cif", RAW)})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_cells")
        hiding = native.parts(OBJECTS, xml=XML)
        hiding[0][0][33018] = (4, [1])
        response = client.post("/classify_batch", files={"files": ("run.cif", native.pack(hiding))})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_cells")
