"""Who may send a request, and how large it may be."""

import hashlib
import time

import pytest
from starlette.datastructures import Headers

from service.api import auth
from service.api.admission import Admission
from service.inference.errors import RequestError
from service.settings import ServiceSettings
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

IMAGE = tiff(typical(0))


@pytest.fixture(scope="module")
def secured(bundles, tmp_path_factory):
    """A client of an application that accepts the keys `key` and `another`."""
    hashes = tuple(hashlib.sha256(key).digest() for key in (b"key", b"another"))
    with (
        application(tmp_path_factory.mktemp("secured"), bundles, api_keys=hashes) as app,
        connected(app) as client,
    ):
        yield client


def test_only_requests_with_a_key_are_answered(secured):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic key"}):
        response = secured.post("/classify", content=IMAGE, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    for headers in ({"authorization": "Bearer key"}, {"x-api-key": "key"}, {"x-api-key": "another"}):
        assert secured.post("/classify", content=IMAGE, headers=headers).status_code == 200
    assert secured.get("/models").status_code == 401


def test_a_new_key_is_accepted_by_its_hash(monkeypatch):
    key, digest = auth.new_key()
    monkeypatch.setenv("FATESCOPE_API_KEYS", digest)
    assert ServiceSettings.read().api_keys == (hashlib.sha256(key.encode()).digest(),)


def test_a_body_without_a_key_or_that_is_too_long_is_not_read(secured):
    def post(path, headers=None, **request):
        response = secured.post(path, headers=headers, **request)
        return response.status_code, response.json()["error"]["code"]

    key = {"x-api-key": "key"}
    for path in (
        "/feedback",
        "/summarise",
        "/compare",
        "/export",
        "/classify",
        "/classify_batch",
        "/classify_slices",
        "/explain",
        "/explain_slices",
    ):
        assert post(path, content=b"{" * 1_000_000) == (401, "api_key")
    files = {"image": bytes(20_000_001)}
    assert post("/feedback", key, files=files, data={"label": "astrocyte"}) == (413, "body_too_large")
    # A body whose length is not announced is counted as it arrives.
    assert post("/classify", key, content=iter([bytes(1_000_000)] * 21)) == (413, "body_too_large")
    json_type = {"content-type": "application/json"}
    assert post("/summarise", key | json_type, content=iter([b" " * 10_000_000] * 21)) == (413, "body_too_large")


def test_what_explains_the_service_needs_no_key(secured):
    for path in ("/", "/page/app.js", "/docs", "/openapi.json"):
        assert secured.get(path).status_code == 200


def test_behind_a_prefix_the_same_paths_need_a_key_and_may_be_as_long(secured):
    with connected(secured.app, root_path="/cells") as client:
        for path in ("/cells/", "/cells/page/app.js", "/cells/docs", "/cells/openapi.json"):
            assert client.get(path).status_code == 200, path
        assert client.get("/cells/models").status_code == 401
        key = {"x-api-key": "key"}
        long = bytes(20_000_001)
        assert client.post("/cells/classify", headers=key, content=long).status_code == 413
        assert client.post("/cells/classify_batch", headers=key, content=long).status_code == 200


def test_the_link_to_a_card_opens_without_a_key_for_a_day(secured, monkeypatch):
    link = {model["task"]: model["card"] for model in secured.get("/models", headers={"x-api-key": "key"}).json()}

    def status(path, method="GET"):
        return secured.request(method, path).status_code

    # The bundles of the tests have no card: 404 comes after the key.
    assert status(f"/{link['binary']}") == 404
    assert status("/card/binary") == 401
    for changed in (
        link["binary"].replace("binary", "multiclass"),
        link["binary"].replace("card", "reference"),
        link["binary"][:-1] + ("0" if link["binary"][-1] != "0" else "1"),
        link["binary"].replace("link=", "link=9"),
        "card/binary?link=",
        "card/binary?link=9999999999-",
        "card/binary?link=٣-x",
    ):
        assert status(f"/{changed}") == 401, changed
    assert status(f"/{link['binary']}", "POST") == 401
    assert "open it again from the page" in secured.get(f"/{link['binary']}0").text
    later = time.time() + auth.LINK_S + 1
    monkeypatch.setattr(auth.time, "time", lambda: later)
    assert status(f"/{link['binary']}") == 401


def test_behind_a_prefix_the_link_to_a_card_opens_too(secured):
    with connected(secured.app, root_path="/cells") as client:
        models = client.get("/cells/models", headers={"x-api-key": "key"}).json()
        link = {model["task"]: model["card"] for model in models}["binary"]
        # There is no card of a bundle without a registry.
        assert client.get(f"/cells/{link}").status_code == 404
        assert client.get(f"/cells/{link}0").status_code == 401
        assert client.get("/cells/card/binary").status_code == 401


def test_the_same_keys_make_the_same_links_and_others_make_others(monkeypatch):
    monkeypatch.setattr(auth.time, "time", lambda: 1e9)

    def link(*keys):
        return auth.APIKeyAuth(tuple(hashlib.sha256(key).digest() for key in keys)).link("/card/binary")

    assert link(b"a", b"b") == link(b"b", b"a"), "gateways may list them in any order"
    assert len({link(b"a"), link(b"b"), link(b"a", b"b"), link()}) == 4


def test_admission_postpones_requests_beyond_its_limits():
    def request(size):
        return Headers({"content-length": str(size)})

    admission = Admission(max_requests=2, max_held_bytes=1000)
    with admission.admit(request(600), 10_000):
        with pytest.raises(RequestError, match="try again") as raised, admission.admit(request(600), 10_000):
            pass
        assert (raised.value.status_code, raised.value.headers["Retry-After"]) == (503, "5")
        with admission.admit(request(10), 10_000):
            with pytest.raises(RequestError) as raised, admission.admit(request(10), 10_000):
                pass
            assert (raised.value.status_code, raised.value.headers["Retry-After"]) == (429, "1")
    with admission.admit(request(5000), 10_000):
        pass  # alone, a request is admitted whatever its size
