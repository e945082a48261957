import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fatescope.errors import ParamsError
from service.inference.engines import ENGINES
from service.settings import ServiceSettings, paths_from_here, variable, variables

KEY_HASH = hashlib.sha256(b"key").hexdigest()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_defaults():
    settings = ServiceSettings.read()
    assert (settings.bundles, settings.pin, settings.engine, settings.threads, settings.runner) == (None,) * 5
    assert (settings.poll_s, settings.retention_days, settings.gateways) == (30, 30, 1)
    assert (settings.records, settings.feedback) == (Path("records"), Path("feedback"))
    assert (settings.api_keys, settings.host) == ((), "127.0.0.1")
    assert (settings.hosts, settings.max_cells, settings.feedback_mb) == ((), 20_000, 1000)


def test_values_are_parsed(monkeypatch):
    for name, value in (
        ("FATESCOPE_BUNDLES", "/bundles"),
        ("FATESCOPE_PIN", "binary=3, multiclass=champion"),
        ("FATESCOPE_POLL_S", "0.5"),
        ("FATESCOPE_API_KEYS", f"{KEY_HASH.upper()}, {'0' * 64},"),
        ("FATESCOPE_ENGINE", "onnxruntime"),
        ("FATESCOPE_THREADS", "4"),
        ("FATESCOPE_RECORDS", "off"),
        ("FATESCOPE_RUNNER", "http://fatescope-runner:3001"),
        ("FATESCOPE_RETENTION_DAYS", ""),
        ("FATESCOPE_HOSTS", "Cells.example.org, lab"),
    ):
        monkeypatch.setenv(name, value)
    settings = ServiceSettings.read()
    assert settings.bundles == Path("/bundles")
    assert settings.pin == {"binary": "3", "multiclass": "champion"}
    assert (settings.poll_s, settings.engine, settings.threads) == (0.5, "onnxruntime", 4)
    assert settings.api_keys == (bytes.fromhex(KEY_HASH), bytes(32))
    assert settings.host == "0.0.0.0", "with keys, other machines may connect"
    assert settings.records is None
    assert settings.hosts == ("cells.example.org", "lab")
    assert settings.retention_days == 30, "an empty variable counts as one that is not set"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FATESCOPE_POLL_S", "often", "FATESCOPE_POLL_S=often: input should be a valid number"),
        ("FATESCOPE_POLL_S", "0", "FATESCOPE_POLL_S=0: input should be greater than 0"),
        ("FATESCOPE_RETENTION_DAYS", "inf", "FATESCOPE_RETENTION_DAYS=inf: input should be a finite number"),
        ("FATESCOPE_GATEWAYS", "-1", "FATESCOPE_GATEWAYS=-1: input should be greater than or equal to 1"),
        ("FATESCOPE_ENGINE", "abacus", "FATESCOPE_ENGINE=abacus: input should be 'cuda', 'torch-cuda', "),
        ("FATESCOPE_PIN", "binary", "FATESCOPE_PIN=binary: 'binary' is not TASK=VERSION; write for example binary=3"),
        ("FATESCOPE_RUNNER", "runner:3001", "FATESCOPE_RUNNER=runner:3001: not an HTTP address; write for example"),
        ("FATESCOPE_API_KEYS", "my-secret", "FATESCOPE_API_KEYS: an entry of 9 characters is not a SHA-256 hash"),
        ("FATESCOPE_API_KEYS", "", "FATESCOPE_API_KEYS: it is set but holds no key"),
        ("FATESCOPE_API_KEYS", ",", "FATESCOPE_API_KEYS: it is set but holds no key"),
        ("FATESCOPE_API_KEYS", " , \t,\n", "FATESCOPE_API_KEYS: it is set but holds no key"),
        ("FATESCOPE_API_KEYS", '""', "FATESCOPE_API_KEYS: an entry of 2 characters is not a SHA-256 hash"),
        ("fatescope_api_keys", "", "FATESCOPE_API_KEYS: it is set but holds no key"),
        ("FATESCOPE_PIN", ",", "FATESCOPE_PIN=,: '' is not TASK=VERSION"),
        ("FATESCOPE_HOSTS", ",", "FATESCOPE_HOSTS=,: '' is not a host name"),
        ("FATESCOPE_HOSTS", "https://a.org", "FATESCOPE_HOSTS=https://a.org: 'https://a.org' is not a host name"),
        ("FATESCOPE_HOSTS", "*", "FATESCOPE_HOSTS=*: '*' is not a host name"),
        ("FATESCOPE_MAX_CELLS", "0", "FATESCOPE_MAX_CELLS=0: input should be greater than or equal to 1"),
        ("FATESCOPE_MAX_CELLS", "100001", "FATESCOPE_MAX_CELLS=100001: input should be less than or equal to 100000"),
        ("FATESCOPE_FEEDBACK_MB", "0", "FATESCOPE_FEEDBACK_MB=0: input should be greater than 0"),
    ],
)
def test_an_invalid_value_is_one_line_with_the_variable_and_the_rule(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError) as raised:
        ServiceSettings.read()
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert "my-secret" not in str(raised.value)


def test_a_program_ends_with_one_line_per_invalid_value():
    command = [sys.executable, "-c", "from service.settings import read_or_exit; read_or_exit()"]
    environment = {"FATESCOPE_THREADS": "0", "FATESCOPE_GATEWAYS": "two", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "FATESCOPE_GATEWAYS=two"]


def test_every_variable_is_documented_in_one_line_and_every_engine_can_be_named():
    for name, field in variables().items():
        assert field.description, name
        assert "\n" not in field.description, name
    assert variables()[variable("engine")].annotation.__args__[0].__args__ == (*ENGINES, "gpu")


def test_paths_are_those_of_the_current_folder_for_a_process_in_another(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATESCOPE_RECORDS", "off")
    monkeypatch.setenv("FATESCOPE_KEYS", "/etc/keys.json")
    monkeypatch.setenv("FATESCOPE_TRUSTED_KEYS", "old.pub, new.pub")
    monkeypatch.setenv("FATESCOPE_LANGUAGE_CACHE", "answers")
    monkeypatch.delenv("FATESCOPE_SIGNING_KEY", raising=False)
    assert paths_from_here() == {
        "FATESCOPE_FEEDBACK": str(tmp_path / "feedback"),
        "FATESCOPE_AUDIT_LOG": str(tmp_path / "audit_log"),
        "FATESCOPE_KEYS": "/etc/keys.json",
        "FATESCOPE_TRUSTED_KEYS": f"{tmp_path}/old.pub,{tmp_path}/new.pub",
        "FATESCOPE_LANGUAGE_CACHE": str(tmp_path / "answers"),
    }
