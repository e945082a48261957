import os
import re
import subprocess
import sys

import pytest

from fatescope import ray_session
from fatescope.errors import ParamsError
from tests.support.project import ROOT
from tests.support.ray_cluster import QUIET, TOKEN, cluster

pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")

CONNECT = """
import logging, sys
from fatescope import ray_session
from fatescope.errors import ParamsError
logging.basicConfig(format="%(message)s")
try:
    with ray_session.connect(sys.argv[1], log_to_driver=False) as ray:
        print("admitted:", ray.get(ray.remote(lambda: 1 + 2).remote()))
except ParamsError as error:
    print("refused:", error)
"""
OTHERS = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print('admitted')"
OPEN = {name: value for name, value in QUIET.items() if name not in TOKEN} | {"RAY_AUTH_MODE": "disabled"}


def run(program, address, home, **environment):
    """Run a program as somebody whose home is empty and who has no token but the one in `environment`."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # Instead of twenty times, once a second, with the same token.
    theirs |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_NUM_REDIS_GET_RETRIES": "1"} | environment
    command = [sys.executable, "-c", program, address]
    done = subprocess.run(command, env=theirs, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def write_token(path, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TOKEN["RAY_AUTH_TOKEN"])
    path.chmod(mode)
    return str(path)


@pytest.mark.slow
def test_a_cluster_lets_in_those_who_have_its_token_and_nobody_else(tmp_path):
    with cluster(tmp_path, 1) as (address, _):
        assert "admitted: 3" in run(CONNECT, address, tmp_path, RAY_AUTH_TOKEN_PATH=write_token(tmp_path / "token"))
        write_token(tmp_path / "home/.ray/auth_token")
        assert run(CONNECT, address, tmp_path / "home") == "admitted: 3\n"
        wrong = run(CONNECT, address, tmp_path, RAY_AUTH_TOKEN="f" * 64)
        assert f"refused: no Ray cluster at '{address}' lets this in" in wrong
        assert "give its token to this command (RAY_AUTH_TOKEN_PATH)" in wrong
        assert f"refused: no Ray cluster at '{address}'" in run(CONNECT, address, tmp_path, RAY_AUTH_MODE="disabled")
        # Somebody who has no use for Fatescope.
        other = run(OTHERS, address, tmp_path)
        assert "Authentication token is missing or incorrect" in other
        assert "admitted" not in other


@pytest.mark.slow
def test_a_cluster_that_anybody_can_use_is_refused_until_that_is_wanted(tmp_path):
    with cluster(tmp_path, 1, environment=OPEN) as (address, _):
        refused = run(CONNECT, address, tmp_path, **TOKEN)
        assert f"refused: the Ray cluster at '{address}' takes work from anybody who reaches it" in refused
        assert "or set RAY_AUTH_MODE=disabled where nobody else does" in refused
        assert run(CONNECT, address, tmp_path, RAY_AUTH_MODE="disabled") == "admitted: 3\n"


def test_a_token_that_is_not_there_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_AUTH_MODE")
    (tmp_path / "empty").write_text("\n")
    for path, reason in (("none", "No such file or directory"), ("empty", "empty"), ("", "No such file or directory")):
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / path) if path else "")
        named = tmp_path / (path or ".ray/auth_token")
        with (
            pytest.raises(
                ParamsError, match=re.escape(f"no token for the Ray cluster ({named}: {reason}); name the file")
            ),
            ray_session.connect("auto", log_to_driver=False),
        ):
            pass


def test_a_token_that_others_can_read_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for mode, told in ((0o600, False), (0o640, True), (0o604, True)):
        caplog.clear()
        path = write_token(tmp_path / "token", mode)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", path)
        ray_session._check_token()
        assert (
            f"others on this machine can read the token of the Ray cluster; chmod 600 {path}" in caplog.text
        ) == told
