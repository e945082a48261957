"""A runner takes data from gateways that know its secret, and nothing that could run."""

import os
import pickle
import stat

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from fatescope import secret_files
from fatescope.errors import ParamsError
from service import runner_protocol
from service.registry import model_store
from service.runner_protocol import MEDIA_TYPE, Guard, decode, encode
from service.settings import ServiceSettings
from tests.support.servers import free_port, ready
from tests.support.standalone import SECRET, start

PICKLE = "application/vnd.bentoml+pickle"
"""What BentoML has its services send."""


class Attack:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def guarded(calls):
    async def call(request):
        calls.append(await request.body())
        return Response("answered")

    application = Starlette(routes=[Route("/predict", call, methods=["POST"]), Route("/metrics", call)])
    application.add_middleware(Guard, secret=SECRET)
    return TestClient(application)


def authorized(**headers):
    return {"authorization": f"Bearer {SECRET}", **headers}


@pytest.mark.parametrize(
    "kind",
    [PICKLE, f"{PICKLE}; charset=utf-8", PICKLE.upper(), "application/json", "multipart/form-data; boundary=b",
     "application/octet-stream", ""],
)  # fmt: skip
@pytest.mark.parametrize("secret", [True, False])
def test_any_other_body_gets_a_415_and_is_not_read(guarded, calls, kind, secret):
    headers = {"content-type": kind} if kind else {}
    response = guarded.post("/predict", content=b"x", headers=authorized(**headers) if secret else headers)
    assert response.status_code == 415
    assert MEDIA_TYPE in response.json()["error"]
    assert not calls


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {SECRET}", f"Bearer {SECRET}x", "Bearer é"]
)
def test_a_caller_without_the_secret_gets_a_401(guarded, calls, header):
    headers = {"content-type": MEDIA_TYPE} | ({} if header is None else {"authorization": header.encode("latin-1")})
    response = guarded.post("/predict", content=encode({}), headers=headers)
    assert response.status_code == 401
    assert "FATESCOPE_RUNNER_SECRET" in response.json()["error"]
    assert not calls


def test_a_gateway_that_knows_it_is_answered_and_probes_need_none(guarded, calls):
    message = encode({"task": "binary"})
    assert guarded.post("/predict", content=message, headers=authorized(**{"content-type": MEDIA_TYPE})).text
    assert calls == [message]
    assert guarded.get("/metrics").status_code == 200


def test_a_runner_without_a_secret_answers_nobody(calls):
    application = Starlette(routes=[Route("/predict", lambda _: calls.append(1), methods=["POST"])])
    application.add_middleware(Guard, secret=None)
    for header in ("Bearer None", "Bearer "):
        headers = {"content-type": MEDIA_TYPE, "authorization": header}
        assert TestClient(application).post("/predict", content=encode({}), headers=headers).status_code == 401
    assert not calls


def test_messages_keep_what_they_carry(rng):
    pixels = rng.integers(0, 4096, (3, 5, 7)).astype(np.uint16)[:, ::2]
    sent = {"task": "binary", "version": "3", "pixels": pixels, "maps": None, "share": 0.5}
    received = decode(encode(sent))
    np.testing.assert_array_equal(received.pop("pixels"), pixels)
    assert received == {name: value for name, value in sent.items() if name != "pixels"}
    floats = rng.normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_array_equal(decode(encode(floats)), floats)
    assert decode(encode(floats)).dtype == np.float32
    for value in (None, {}, {"error": None}, "text", 3):
        assert decode(encode(value)) == value


@pytest.mark.parametrize("cut", [0, 4, 8, 40, -1])
def test_a_damaged_message_is_an_error(cut):
    with pytest.raises(ValueError, match="not a message"):
        decode(encode({"pixels": np.zeros((2, 3), np.uint16)})[:cut])


def test_arrays_of_objects_are_not_sent(tmp_path):
    with pytest.raises(Exception):  # noqa: B017, PT011  safetensors has no error of its own for it
        encode(np.array([Attack(tmp_path / "ran")], dtype=object))


def test_the_secret_of_a_machine_is_made_once_for_its_owner_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("FATESCOPE_RUNNER_SECRET", raising=False)
    settings = ServiceSettings.read()
    secret = runner_protocol.own_secret(settings)
    assert len(secret) == 64
    assert runner_protocol.own_secret(settings) == secret
    assert stat.S_IMODE((secret_files.folder() / runner_protocol.SECRET).stat().st_mode) == 0o600


def test_a_file_or_a_variable_names_the_secret_of_several_machines(monkeypatch, tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    monkeypatch.setenv("FATESCOPE_RUNNER_SECRET_FILE", str(path))
    assert runner_protocol.own_secret(ServiceSettings.read()) == SECRET
    path.write_text("short")
    with pytest.raises(ParamsError, match="fewer than"):
        runner_protocol.own_secret(ServiceSettings.read())
    path.unlink()
    with pytest.raises(ParamsError, match="FATESCOPE_RUNNER_SECRET_FILE"):
        runner_protocol.own_secret(ServiceSettings.read())
    monkeypatch.setenv("FATESCOPE_RUNNER_SECRET", "hunter2")
    with pytest.raises(ParamsError) as wrong:
        ServiceSettings.read()
    assert "hunter2" not in str(wrong.value)


@pytest.mark.slow
def test_a_pickle_at_the_port_of_a_runner_runs_nothing(bundles, tmp_path):
    """On TCP, as on another machine, and with the secret, as a gateway that was taken over would have it."""
    port, proof = free_port(), tmp_path / "ran"
    pickle.loads(pickle.dumps(Attack(tmp_path / "shown")))  # what it would do
    assert (tmp_path / "shown").exists()
    with start(tmp_path / "runner", "runner", port, bundles):
        address = f"http://127.0.0.1:{port}"
        ready(f"{address}/readyz")
        body = pickle.dumps(Attack(proof))
        for route in ("prepare", "predict", "explain", "keep_alive"):
            for extra in ({}, {"buffer-lengths": str(len(body))}):
                for headers in ({"content-type": PICKLE}, authorized(**{"content-type": PICKLE})):
                    response = httpx.post(f"{address}/{route}", content=body, headers=headers | extra)
                    assert response.status_code == 415
            # Under another name it is a damaged message.
            claimed = authorized(**{"content-type": MEDIA_TYPE})
            assert httpx.post(f"{address}/{route}", content=body, headers=claimed).status_code in (400, 500)
        assert not proof.exists()
        asked = encode({"task": "binary", "version": model_store.list_champions(bundles)["binary"].version})
        unknown = httpx.post(f"{address}/prepare", content=asked, headers={"content-type": MEDIA_TYPE})
        assert unknown.status_code == 401
        known = httpx.post(f"{address}/prepare", content=asked, headers=authorized(**{"content-type": MEDIA_TYPE}))
        assert decode(known.content)["error"] is None
        assert httpx.get(f"{address}/metrics").status_code == 200
