"""Digests of images come from a registry, here a tiny one on this machine, and end up behind the tags."""

import hashlib
import importlib.util
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.project import ROOT

SOURCE = importlib.util.spec_from_file_location("pin_images", ROOT / "deploy" / "pin_images.py")
pin_images = importlib.util.module_from_spec(SOURCE)
SOURCE.loader.exec_module(pin_images)


class Registry(BaseHTTPRequestHandler):
    """Has an index for every tag but `gone`, for who shows the token of the repository."""

    claimed = None

    def do_GET(self):
        address = urlsplit(self.path)
        if address.path == "/token":
            [scope] = parse_qs(address.query)["scope"]
            return self.answer(200, json.dumps({"token": f"for {scope}"}).encode())
        name, tag = address.path.removeprefix("/v2/").split("/manifests/")
        scope = f"repository:{name}:pull"
        if self.headers["Authorization"] != f"Bearer for {scope}":
            host = f"http://127.0.0.1:{self.server.server_port}"
            challenge = f'Bearer realm="{host}/token",service="a registry",scope="{scope}"'
            return self.answer(401, b"", {"WWW-Authenticate": challenge})
        if tag == "gone" or "oci.image.index" not in self.headers["Accept"]:
            return self.answer(404, b"")
        digest = self.claimed or f"sha256:{hashlib.sha256(manifest(name, tag)).hexdigest()}"
        return self.answer(200, manifest(name, tag), {"Docker-Content-Digest": digest})

    def answer(self, code, body, headers=None):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def manifest(name, tag):
    return json.dumps({"schemaVersion": 2, "manifests": [f"{name}:{tag}"]}).encode()


@pytest.fixture
def registry():
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    """A copy of the files of deployment."""
    return shutil.copytree(ROOT / "deploy", tmp_path / "deploy")


def pinned(name, tag, path=None):
    return f"{name}:{tag}@sha256:{hashlib.sha256(manifest(path or name, tag)).hexdigest()}"


def test_every_image_of_others_gets_the_digest_of_its_tag(registry, folder, capsys):
    assert pin_images.main(["--folder", str(folder), "--registry", registry, "--check"]) == 1
    assert pin_images.main(["--folder", str(folder), "--registry", registry]) == 0
    dockerfile, compose = (folder / "Dockerfile").read_text(), (folder / "compose.yaml").read_text()
    base = next(line for line in dockerfile.splitlines() if line.startswith("ARG BASE="))
    tag = base.partition("python:")[2].partition("@")[0]
    assert base == f"ARG BASE={pinned('python', tag, 'library/python')}"
    images = [line.split()[-1] for line in compose.splitlines() if " image: " in line and "fatescope" not in line]
    assert len(images) == 5
    for image in images:
        name, tag = image.partition("@")[0].split(":")
        assert image == pinned(name, tag, name if "/" in name else f"library/{name}")
    # Ours are built, and what else there is stays as it was.
    assert "image: fatescope:0.1.0\n" in compose
    assert "image: fatescope:0.1.0\n" in (folder / "kubernetes/gateway.yaml").read_text()
    assert compose.replace("\n", "").count("@sha256:") == 5
    again = (folder / "compose.yaml").stat().st_mtime_ns
    assert pin_images.main(["--folder", str(folder), "--registry", registry]) == 0
    assert (folder / "compose.yaml").stat().st_mtime_ns == again
    assert pin_images.main(["--folder", str(folder), "--registry", registry, "--check"]) == 0
    capsys.readouterr()


def test_a_digest_follows_its_tag(registry):
    find = pin_images.DigestFinder(registry)
    old = f"    image: prom/prometheus:v3@sha256:{'0' * 64}\n"
    assert pin_images.pin(old, find) == f"    image: {pinned('prom/prometheus', 'v3')}\n"


def test_nothing_is_written_where_one_tag_is_unknown(registry, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("image: postgres:16\n")
    (tmp_path / "b.yaml").write_text("image: postgres:gone\n")
    assert pin_images.main(["--folder", str(tmp_path), "--registry", registry]) == 1
    assert "library/postgres/manifests/gone: answered 404; is the tag right?" in capsys.readouterr().err
    assert (tmp_path / "a.yaml").read_text() == "image: postgres:16\n"


def test_a_registry_that_contradicts_itself_is_not_believed(registry, monkeypatch):
    monkeypatch.setattr(Registry, "claimed", f"sha256:{'0' * 64}")
    with pytest.raises(pin_images.RegistryError, match="and the registry says sha256:000"):
        pin_images.DigestFinder(registry)("postgres", "16")


def test_a_registry_that_is_away_is_named():
    with pytest.raises(pin_images.RegistryError, match=r"127\.0\.0\.1:1/v2/library/postgres.*name a mirror with"):
        pin_images.DigestFinder("http://127.0.0.1:1")("postgres", "16")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("python", ("registry-1.docker.io", "library/python")),
        ("prom/prometheus", ("registry-1.docker.io", "prom/prometheus")),
        ("ghcr.io/a/b", ("ghcr.io", "a/b")),
        ("localhost:5000/a", ("localhost:5000", "a")),
    ],
)
def test_an_image_is_looked_for_where_docker_would(name, place):
    assert pin_images.locate(name) == place
