"""What other sites may have a browser send to a service without keys, and to one with keys."""

import hashlib

import pytest

from tests.support.images import tiff, typical
from tests.support.in_process import application, connected

IMAGE = tiff(typical(0))
OTHER = "https://example.org"


def post(client, **headers):
    """Return status and error code of a correction that is sent with `headers`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    form = {"files": {"image": ("a.tif", IMAGE)}, "data": {"label": "astrocyte"}, "params": {"task": "binary"}}
    response = client.post("/feedback", headers=named, **form)
    return response.status_code, response.json().get("error", {}).get("code")


@pytest.fixture(scope="module")
def listed(bundles, tmp_path_factory):
    """A client of an application without keys that is also called `cells.example.org`."""
    folder = tmp_path_factory.mktemp("listed")
    with application(folder, bundles, hosts=("cells.example.org",)) as app, connected(app) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": OTHER},
        {"origin": OTHER, "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://localhost:8888", "sec_fetch_site": "same-site", "host": "localhost:3000"},
        {"origin": "http://localhost:8888", "host": "localhost:3000"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
def test_other_sites_cannot_change_anything(client, app, headers):
    assert post(client, **headers) == (403, "cross_site")
    assert not app.state.service.feedback._folder.exists()


@pytest.mark.parametrize(
    "host", ["example.org", "example.org:3000", "localhost.example.org", "127.0.0.1.example.org", "", "http://x", "[x"]
)
def test_a_name_that_another_site_points_here_is_not_answered(client, host):
    """DNS rebinding: to the browser, it is the same site."""
    assert post(client, host=host, origin=f"http://{host}", sec_fetch_site="same-origin") == (403, "host")
    response = client.get("/models", headers={"host": host})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "host")
    assert "FATESCOPE_HOSTS" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "host",
    ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "192.168.1.7", "fatescope", "lab.local", "fatescope.lab.svc",
     "LOCALHOST", "localhost."],
)  # fmt: skip
def test_local_names_and_addresses_are_answered(client, host):
    assert client.get("/models", headers={"host": host}).status_code == 200
    # A program sends no origin; the page sends its own.
    assert post(client, host=host)[0] == 200
    assert post(client, host=host, origin=f"http://{host}")[0] == 200
    assert post(client, host=host, origin=f"http://{host}", sec_fetch_site="same-origin")[0] == 200


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": ""}, False),
        ({"sec_fetch_site": "same-origin", "origin": OTHER}, True),
        ({"sec_fetch_site": "none", "origin": OTHER}, True),
        ({"sec_fetch_site": "same-site", "origin": "http://localhost:3000"}, False),
        ({"sec_fetch_site": "cross-site", "origin": "http://localhost:3000"}, False),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "http://LocalHost:3000"}, True),
        # Behind a proxy, the service does not know by which scheme it was asked.
        ({"origin": "https://localhost:3000"}, True),
        ({"origin": "http://localhost:3001"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://127.0.0.1:3000"}, False),
        ({"origin": ""}, False),
    ],
)
def test_what_a_browser_says_of_the_page_that_sends_a_request(client, headers, is_own):
    expected = (200, None) if is_own else (403, "cross_site")
    assert post(client, host="localhost:3000", **headers) == expected
    # What changes nothing may be read: the browser does not show the answer to another site.
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    assert client.get("/models", headers={"host": "localhost:3000"} | named).status_code == 200


@pytest.mark.parametrize("site", ["same-site", "cross-site", None])
def test_a_site_in_the_setting_may_send_what_its_pages_send(listed, site):
    marked = {"sec_fetch_site": site} if site else {}
    for origin in ("https://cells.example.org", "http://cells.example.org:8080"):
        assert post(listed, host="localhost:3000", origin=origin, **marked) == (200, None)
    assert post(listed, host="localhost:3000", origin=OTHER, **marked) == (403, "cross_site")


def test_a_name_in_the_setting_is_answered_also_behind_a_proxy_that_changes_the_host(listed):
    assert post(listed, host="cells.example.org")[0] == 200
    own = "https://cells.example.org"
    assert post(listed, host="127.0.0.1:3000", origin=own)[0] == 200
    forwarded = {"host": "127.0.0.1:3000", "x_forwarded_host": "proxy.example.net"}
    assert post(listed, origin="https://proxy.example.net", **forwarded)[0] == 200
    chain = forwarded | {"x_forwarded_host": "proxy.example.net, inner.example.net"}
    assert post(listed, origin="https://proxy.example.net", **chain)[0] == 200
    assert post(listed, origin="https://inner.example.net", **chain) == (403, "cross_site")
    empty = {"host": "127.0.0.1:3000", "x_forwarded_host": ""}
    assert post(listed, origin="http://127.0.0.1:3000", **empty)[0] == 200
    assert post(listed, host="other.example.org") == (403, "host")
    assert post(listed, host="cells.example.org", origin=OTHER) == (403, "cross_site")


def test_with_keys_any_name_is_answered_because_other_sites_know_no_key(bundles, tmp_path):
    hashes = (hashlib.sha256(b"key").digest(),)
    with application(tmp_path, bundles, api_keys=hashes) as app, connected(app) as client:
        headers = {"host": "cells.example.org", "origin": "https://portal.example.org"}
        assert post(client, x_api_key="key", **headers)[0] == 200
        assert post(client, **headers) == (401, "api_key")


def test_classification_is_refused_as_corrections_are(client):
    """It writes records, from which drift is computed."""
    for path in ("/classify", "/classify_batch", "/summarise", "/compare", "/export"):
        response = client.post(path, content=IMAGE, headers={"origin": OTHER})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "cross_site"), path
