"""A native file that is sent in slices gets the answers that it gets as a whole, whatever its layout."""

import struct

import numpy as np
import pytest

from fatescope.data.native import slices
from tests.support import native
from tests.support.images import typical
from tests.support.project import SHARED

NUMBERS = [3 * i + 1 for i in range(40)]
OBJECTS = [(np.stack([typical(i), typical(i) // 2]), np.zeros((2, 45, 60), np.uint8)) for i in range(40)]
XML = native.acquisition_xml((3, 4), (3,))
PARTS = native.parts(OBJECTS, xml=XML, numbers=NUMBERS)
RAW = native.pack(PARTS)


@pytest.fixture
def small(monkeypatch):
    """Slices of some objects, as 8 MB of a real file are."""
    monkeypatch.setattr(slices, "SLICE", 30_000)
    monkeypatch.setattr(slices, "NEAR", 4000)


def send(client, raw, spans, cursor=None, *, size=None, name="run.cif", **query):
    parts = [("slices", raw[start:stop]) for start, stop in spans]
    given = {"offset": [start for start, _ in spans], "size": len(raw) if size is None else size, "name": name}
    return client.post("/classify_slices", files=parts, params=given | ({"cursor": cursor} if cursor else {}) | query)


def send_all(client, raw, first=30_000, **query):
    """Return all cells of a file, the requests that they took, and the bytes of the largest."""
    cells, spans, cursor, sizes = [], [(0, min(first, len(raw)))], None, []
    for _ in range(1000):
        sizes.append(sum(stop - start for start, stop in spans))
        response = send(client, raw, spans, cursor, **query).raise_for_status().json()
        cells += response["cells"]
        if response["next"] is None:
            return cells, len(sizes), max(sizes)
        cursor = response["next"]["cursor"]
        spans = [(span["start"], span["stop"]) for span in response["next"]["slices"]]
    raise AssertionError("the service always asks for more")


def whole(client, raw, **query):
    return client.post("/classify_batch", files=[("files", ("run.cif", raw))], params=query).json()["cells"]


def same(cells, others):
    assert [(cell["object"], cell.get("label")) for cell in cells] == [
        (cell["object"], cell.get("label")) for cell in others
    ]
    for cell, other in zip(cells, others, strict=True):
        assert cell.get("error") == other.get("error")
        if "error" not in cell:
            np.testing.assert_allclose([*cell["probabilities"].values()], [*other["probabilities"].values()], atol=1e-5)


@pytest.mark.usefixtures("small")
def test_slices_give_the_cells_of_the_whole_file(client):
    cells, requests, largest = send_all(client, RAW, details=True)
    same(cells, whole(client, RAW))
    assert requests > 5
    assert largest < 40_000 < len(RAW)
    assert cells[0]["thumbnail"]


def test_a_small_file_takes_one_request(client):
    response = send(client, RAW, [(0, len(RAW))]).json()
    assert response["next"] is None
    assert response["objects"] == len(response["cells"]) == 40
    assert response["cells"][0]["file"] == "run.cif"


def test_an_answer_has_a_limited_number_of_cells_and_the_next_one_goes_on(client, monkeypatch):
    monkeypatch.setattr("service.inference.classify_batch.MAX_CELLS", 15)
    cells, requests, _ = send_all(client, RAW, first=len(RAW))
    assert [cell["object"] for cell in cells] == NUMBERS
    assert requests == 3


@pytest.mark.usefixtures("small")
def test_every_first_slice_will_do(client):
    for first in (0, 1, 7, 9, 300, 3000):
        cells, _, _ = send_all(client, RAW[:40_000], first=first)
        assert [cell["object"] for cell in cells[:3]] == NUMBERS[:3]


@pytest.mark.usefixtures("small")
def test_objects_far_behind_the_header_are_asked_for(client, tmp_path):
    raw = native.write_beyond(tmp_path / "run.cif", PARTS, 400_000).read_bytes()
    cells, _, largest = send_all(client, raw)
    same(cells, whole(client, RAW))
    assert largest < 80_000


class OnDisk:
    """The bytes of a file, of which only slices are read."""

    def __init__(self, path):
        self._path = path

    def __len__(self):
        return self._path.stat().st_size

    def __getitem__(self, span):
        with self._path.open("rb") as file:
            file.seek(span.start)
            return file.read(span.stop - span.start)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("begin", [2**31 + 5, 2**32 - 90_000])
def test_offsets_that_wrap_above_4_gib_are_told(client, tmp_path, begin):
    raw = OnDisk(native.write_beyond(tmp_path / "run.cif", PARTS, begin))
    cells, _, largest = send_all(client, raw)
    same(cells, whole(client, RAW))
    assert largest < 80_000


@pytest.mark.usefixtures("small")
def test_pixels_that_lie_before_their_directories_are_asked_for(client):
    streams, directories = b"", [PARTS[0]]
    for entries, data in PARTS[1:]:
        directories.append((entries | {273: (4, [8 + len(streams)])}, b""))
        streams += data
    raw = bytearray(b"II*\0" + struct.pack("<I", 8 + len(streams)) + streams)
    for i, (entries, data) in enumerate(directories):
        raw += native.directory(len(raw), entries, data, len(directories) - 1 - i)
    cells, _, largest = send_all(client, bytes(raw))
    same(cells, whole(client, bytes(raw)))
    assert all("label" in cell for cell in cells)
    assert largest < 80_000


@pytest.mark.usefixtures("small")
def test_damage_costs_what_it_costs_in_the_whole_file(client):
    directories = native.parts(OBJECTS, xml=XML, numbers=NUMBERS)
    directories[21][0][279] = (4, [5])
    damaged = native.pack(directories)
    cells, _, _ = send_all(client, damaged)
    same(cells, whole(client, damaged))
    assert [cell["error"]["code"] for cell in cells if "error" in cell] == ["truncated"]
    broken = RAW[: len(RAW) // 2]
    cells, _, _ = send_all(client, broken)
    same(cells, whole(client, broken))
    assert cells[-1]["error"]["message"].startswith("run.cif: the objects from number ")


@pytest.mark.usefixtures("small")
def test_a_pointer_that_leads_astray_is_mended_as_in_the_whole_file(client):
    raw = bytearray(RAW)
    place = raw.index(struct.pack("<HHII", 33003, 4, 1, NUMBERS[20]))
    begin = raw.rindex(struct.pack("<HHI", 254, 1, 2), 0, place) - 2
    behind = begin + 2 + 12 * struct.unpack_from("<H", raw, begin)[0]
    for astray in (len(raw) - 1000, 100, len(raw) + 5):
        struct.pack_into("<I", raw, behind, astray)
        cells, _, _ = send_all(client, bytes(raw))
        same(cells, whole(client, bytes(raw)))
        assert len(cells) == 40


def test_a_file_that_is_no_native_one_is_refused(client):
    for raw in (b"x" * 5000, b"", RAW[:4], b"II*\0\xff\xff\xff\xff"):
        cells, _, _ = send_all(client, raw)
        assert [cell["error"]["message"].startswith("run.cif: ") for cell in cells] == [True]


@pytest.mark.usefixtures("small")
def test_any_damage_ends_and_answers_as_the_whole_file_does(client):
    rng = np.random.default_rng(0)
    for _ in range(30):
        raw = bytearray(native.pack(PARTS[:13]))
        for at in rng.integers(0, len(raw), 12):
            raw[at] = rng.integers(0, 256)
        cells, _, _ = send_all(client, bytes(raw))
        assert [cell["object"] for cell in cells] == [cell["object"] for cell in whole(client, bytes(raw))]


@pytest.mark.usefixtures("small")
def test_parts_that_lie_too_far_apart_cost_one_object(client, monkeypatch):
    monkeypatch.setattr(slices, "MAX_SLICES", 2)
    directories = native.parts(OBJECTS, xml=XML, numbers=NUMBERS)
    raw = bytearray(native.pack(directories))
    place = raw.index(struct.pack("<HHII", 33003, 4, 1, NUMBERS[2]))
    at = raw.rindex(struct.pack("<HHI", 273, 4, 1), 0, place) + 8
    struct.pack_into("<I", raw, at, len(raw) - 6000)
    cells, _, _ = send_all(client, bytes(raw), first=6000)
    assert [cell["object"] for cell in cells if "error" in cell] == [NUMBERS[2]]
    assert len(cells) == 40


@pytest.mark.parametrize(
    ("spans", "query", "message"),
    [
        ([(0, 100)], {"size": 50}, "a slice ends behind the 50 bytes of the file"),
        ([(0, 100)], {"offset": [0, 5]}, "1 slice, but 2 offsets"),
        ([(0, 100)], {"cursor": "1-2"}, "'1-2' is no place in a file"),
        ([(0, 100)], {"cursor": "1-2-3-٤"}, "is no place in a file"),
        ([(0, 100)], {"cursor": f"1-2-{'9' * 5000}-0"}, "is no place in a file"),
        ([(0, 100)], {"offset": [-1]}, "offset"),
        ([(0, 100)], {"size": 1 << 60}, "size"),
    ],
)
def test_what_does_not_fit_together_is_refused(client, spans, query, message):
    response = send(client, RAW, spans, **query)
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]


def test_a_place_that_another_file_or_nobody_named_harms_nobody(client):
    for cursor in ("7-7-99999999999-1", "0-0-0-0", "5-5-9-1"):
        response = send(client, RAW, [(0, len(RAW))], cursor).raise_for_status().json()
        assert response["next"] is None
        assert response["cells"][-1]["error"]["code"] == "truncated"
    # The header, as if many objects lay before it.
    response = send(client, RAW, [(0, len(RAW))], f"{'9' * 18}-0-8-0").raise_for_status().json()
    assert [cell["object"] for cell in response["cells"]] == NUMBERS


def test_a_body_of_too_many_bytes_is_refused(client):
    query = {"name": "run.cif", "size": 10**9, "offset": 0}
    response = client.post("/classify_slices", content=bytes(50_000_001), params=query)
    assert response.status_code == 413


def test_a_real_file_in_slices(client, monkeypatch):
    path = SHARED / "eosinophil.cif"
    if not path.is_file():
        pytest.skip(f"{path} is absent; it is a real file that the repository does not hold")
    monkeypatch.setattr(slices, "SLICE", 200_000)
    raw = path.read_bytes()
    cells, requests, largest = send_all(client, raw, first=1000)
    same(cells, whole(client, raw))
    assert len(cells) == 111
    assert requests > 4
    assert largest < 600_000
