import os
import subprocess
import sys
from pathlib import Path

import pytest

from fatescope.errors import ParamsError
from monitoring.settings import MonitoringSettings, variables
from tests.support.project import ROOT

WIDE_TERMINAL = os.environ | {"COLUMNS": "250", "NO_COLOR": "1"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_options_come_before_the_environment_and_the_environment_before_defaults(monkeypatch):
    monkeypatch.setenv("FATESCOPE_RECORDS", "/records")
    monkeypatch.setenv("FATESCOPE_WINDOW", "300")
    monkeypatch.setenv("FATESCOPE_SERVICE", "")
    settings = MonitoringSettings.read({"window": 100, "interval_s": None})
    assert (settings.records, settings.window, settings.interval_s) == (Path("/records"), 100, 30)
    assert settings.service == "http://127.0.0.1:3000", "an empty variable counts as one that is not set"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FATESCOPE_WINDOW", "5", "--window or FATESCOPE_WINDOW=5: input should be greater than or equal to 30"),
        ("FATESCOPE_INTERVAL_S", "inf", "--every or FATESCOPE_INTERVAL_S=inf: input should be a finite number"),
        ("FATESCOPE_SERVICE", "localhost", "--service or FATESCOPE_SERVICE=localhost: string should match pattern"),
        ("FATESCOPE_RECORDS", "off", "--records or FATESCOPE_RECORDS=off: with FATESCOPE_RECORDS=off the service"),
    ],
)
def test_an_invalid_value_is_named_with_its_rule(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError) as error:
        MonitoringSettings.read({})
    assert str(error.value).startswith(message)


def test_every_setting_is_described():
    assert all(field.description for field in variables().values())


@pytest.mark.slow
@pytest.mark.parametrize("program", ["exporter", "incidents"])
def test_every_option_has_help_and_an_error_is_one_line(program):
    command = [sys.executable, "-m", f"monitoring.{program}"]
    shown = subprocess.run(
        [*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, env=WIDE_TERMINAL
    ).stdout
    options = [line for line in shown.partition("Options")[2].splitlines() if line.lstrip("│ *").startswith("--")]
    assert len(options) >= 6
    for line in options:
        assert len(line.strip("│ ").split("  ")) > 1, line
    assert "FATESCOPE_RECORDS" in shown
    assert "127.0.0.1:3000" in shown, "the default"
    refused = subprocess.run([*command, "--window", "5"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --window or FATESCOPE_WINDOW=5")
    assert refused.stderr.count("\n") == 1
