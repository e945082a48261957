"""What a start of the service leaves to the other services of the same user."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from service import startup
from tests.support.bundles import EXACT
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import serving

IMAGE = tiff(typical(0))
OPENS = "import os, service.startup, sys; print(service.startup.metrics_folder(), flush=True); {then}"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, in this process and in those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(startup.tempfile, "tempdir", None)
    return tmp_path


def start(then):
    """Run a program that makes a metrics folder and then does something else; return it and the folder."""
    program = subprocess.Popen(
        [sys.executable, "-c", OPENS.format(then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return program, Path(program.stdout.readline().strip())


def test_a_metrics_folder_goes_with_its_process(temporary):
    program, folder = start("sys.stdin.read()")
    assert folder.is_dir()
    assert not list(folder.iterdir()), "BentoML deletes what is in it"
    assert folder.is_relative_to(temporary)
    program.communicate()
    assert not list(temporary.iterdir())


def test_the_folder_of_a_killed_process_goes_at_the_next_start_and_that_of_a_running_one_stays(temporary):
    running, kept = start("sys.stdin.read()")
    killed, stale = start("os.kill(os.getpid(), 9)")
    killed.communicate()
    (temporary / "precious").mkdir()
    (temporary / "fatescope-metrics-link").symlink_to(temporary / "precious")
    assert stale.is_dir()
    other, _ = start("sys.exit()")
    other.communicate()
    assert not stale.exists()
    assert kept.is_dir()
    assert (temporary / "precious").is_dir()
    running.communicate()


def test_workers_that_outlive_a_killed_parent_keep_its_folder(temporary):
    worker = "[sys.executable, '-c', 'import sys; sys.stdin.read()']"
    then = f"import subprocess; subprocess.Popen({worker}, close_fds=False); os.kill(os.getpid(), 9)"
    killed, kept = start(then)
    killed.wait()
    start("sys.exit()")[0].communicate()
    assert kept.is_dir()
    killed.stdin.close()
    killed.stdout.close()
    end = time.monotonic() + 20
    while kept.is_dir():
        assert time.monotonic() < end
        start("sys.exit()")[0].communicate()
    assert not list(temporary.iterdir())


def test_the_gateway_has_no_time_limit_of_bentoml_and_the_runner_keeps_it(bundles):
    program = (
        "from service.gateway import Fatescope, Runner\n"
        "for application in (Fatescope.to_asgi().bento, Runner.to_asgi()): "
        "print([layer.cls.__name__ for layer in application.user_middleware])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATESCOPE_BUNDLES": str(bundles)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    gateway, runner = done.stdout.splitlines()[-2:]
    assert "TimeoutMiddleware" not in gateway
    assert "ContextMiddleware" in gateway
    assert "TimeoutMiddleware" in runner


def test_idle_connections_stay_open_for_longer_than_proxies_keep_theirs():
    program = (
        "import uvicorn; from service import server\n"
        "configured = [uvicorn.Config('app', timeout_keep_alive=seconds) for seconds in (5, 7)]\n"
        "server.lengthen_keep_alive()\n"
        "print(*(each.timeout_keep_alive for each in configured))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    of_bentoml, chosen = map(int, done.stdout.split())
    assert of_bentoml > 60, "nginx, AWS and Azure keep theirs for 60 s"
    assert chosen == 7


@pytest.fixture(scope="module")
def first(bundles, tmp_path_factory):
    """A running service, whose BentoML would end uploads after a second; `client.settings` are its variables."""
    folder = tmp_path_factory.mktemp("first")
    settings = {
        "FATESCOPE_BUNDLES": str(bundles),
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_CONFIG_OPTIONS": "services.fatescope.traffic.timeout=1",
        **EXACT,
    }
    with serving(folder, ROOT, settings) as client:
        client.settings = settings
        yield client


def count(client):
    """Return how many images the service says it has classified."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("fatescope_cells_total{"))


@pytest.mark.slow
def test_a_second_service_of_the_same_user_leaves_the_metrics_of_the_first(first, tmp_path):
    first.post("/classify", content=IMAGE).raise_for_status()
    before = count(first)
    assert before
    with serving(tmp_path, ROOT, first.settings) as second:
        second.post("/classify", content=IMAGE).raise_for_status()
        assert count(second) == 1
        assert count(first) == before
    assert count(first) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["bentoml", "serve", "service.gateway:Fatescope", "--working-dir", str(ROOT)],
        [sys.executable, "-m", "fatescope.cli", "serve"],
        [sys.executable, "-m", "service.standalone", "gateway"],
    ],
)
def test_a_port_that_is_taken_is_one_line_and_changes_nothing(first, tmp_path, command):
    first.post("/classify", content=IMAGE).raise_for_status()
    before, port = count(first), first.base_url.port
    environment = os.environ | first.settings | {"PYTHONPATH": str(ROOT), "FATESCOPE_RUNNER": "http://127.0.0.1:1"}
    # BentoML says that it reads it.
    del environment["BENTOML_CONFIG_OPTIONS"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout + done.stderr == (
        f"error: port {port} of 127.0.0.1 cannot be used (Address already in use); end the program that uses it, or "
        "choose another port with --port\n"
    )
    assert count(first) == before


@pytest.mark.slow
def test_an_upload_that_takes_longer_than_the_limit_of_bentoml_is_answered(first):
    def slow():
        for part in (IMAGE[:1000], IMAGE[1000:2000], IMAGE[2000:]):
            yield part
            time.sleep(0.7)

    assert first.post("/classify", content=slow()).status_code == 200


@pytest.mark.slow
def test_an_idle_connection_stays_open_for_longer_than_proxies_keep_theirs(first):
    with socket.create_connection((first.base_url.host, first.base_url.port)) as connection:
        reading = connection.makefile("rb")

        def request():
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status, length = reading.readline(), 0
            while (line := reading.readline()).strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            reading.read(length)
            return status

        assert b"200" in request()
        # Uvicorn closes after 5 s by default.
        time.sleep(7)
        assert b"200" in request()


def test_a_start_by_another_program_has_checked_its_own_address():
    """The gateway of `service.standalone` on port 4000 does not mind who is on port 3000."""
    assert startup.requested_address("127.0.0.1", 3000) is None
    with click.Context(click.Command("serve")) as context:
        context.params = {"host": None, "port": 4000}
        assert startup.requested_address("127.0.0.1", 3000) == ("127.0.0.1", 4000)
