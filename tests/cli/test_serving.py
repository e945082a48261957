"""`fatescope serve` and `watch`, before they start anything."""

import os
import socket
import subprocess

import httpx
import pytest

from fatescope.cli import console, serving
from tests.support.servers import free_port


@pytest.fixture
def taken():
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def _nothing_is_started(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a program was started")

    # Programs that this machine need not have.
    monkeypatch.setattr(console, "program", lambda name, _: name)
    monkeypatch.setattr(os, "execv", start)
    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize("command", ["serve", "watch"])
def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(fatescope, taken, command):
    result = fatescope(command, "--port", taken)
    assert (result.code, result.output) == (1, "")
    assert result.errors == (
        f"error: port {taken} of 127.0.0.1 cannot be used (Address already in use); end the program that uses it, or "
        "choose another port with --port\n"
    )


def test_a_port_of_monitoring_that_is_taken_is_not_one_that_an_option_moves(fatescope, taken, monkeypatch):
    monkeypatch.setattr(serving, "WATCH_PORTS", (taken,))
    result = fatescope("watch", "--port", free_port())
    assert (result.code, result.output) == (1, "")
    assert result.errors == (
        f"error: port {taken} of 127.0.0.1 cannot be used (Address already in use); end the program that uses it\n"
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("192.0.2.1", "http://192.0.2.1:3000"),
        ("::1", "http://[::1]:3000"),
        ("::", "http://[::1]:3000"),
    ],
)
def test_the_address_that_is_printed_leads_to_the_page(host, url):
    assert serving.page_url(host, 3000) == url
    assert httpx.URL(url).port == 3000


def test_where_keys_are_asked_for_the_port_is_looked_for_on_all_addresses(fatescope, taken, monkeypatch):
    monkeypatch.setenv("FATESCOPE_API_KEYS", "0" * 64)
    assert f"port {taken} of 0.0.0.0 cannot be used" in fatescope("serve", "--port", taken).errors


def test_a_variable_for_keys_that_holds_none_does_not_open_the_service(fatescope, monkeypatch):
    for value in ("", ",", " "):
        monkeypatch.setenv("FATESCOPE_API_KEYS", value)
        result = fatescope("serve", "--host", "0.0.0.0", "--port", 3999)
        assert result.code == 1
        assert result.errors.startswith("error: FATESCOPE_API_KEYS: it is set but holds no key")


def test_the_service_keeps_its_files_where_commands_look_for_them(fatescope, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RECORDS": "log", "FEEDBACK": "feedback", "AUDIT_LOG": "off", "BUNDLES": ""}.items():
        monkeypatch.setenv(f"FATESCOPE_{name}", value)
    started = {}
    monkeypatch.setattr(os, "execv", lambda *_: started.update(os.environ))
    assert fatescope("serve", "--port", free_port(), "--bundles", "models").code == 0
    # BentoML starts it in the folder of the sources.
    kept = [started[f"FATESCOPE_{name}"] for name in ("RECORDS", "FEEDBACK", "BUNDLES", "AUDIT_LOG")]
    assert kept == [*(str(tmp_path / name) for name in ("log", "feedback", "models")), "off"]
