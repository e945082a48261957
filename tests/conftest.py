"""What the tests of all packages share: made-up cells, the project's own parameters, and the real images."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fatescope import audit_log
from fatescope import config as params_module
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import SHARED


def pytest_configure(config):
    # The key of whoever runs the tests stays out of them, and most bundles here have no signature.
    folder = Path(tempfile.mkdtemp(prefix="fatescope-test-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["FATESCOPE_SIGNING_KEY"] = str(folder / "signing-key.pem")
    os.environ["FATESCOPE_SIGNATURES"] = "warn"


def pytest_collection_modifyitems(items):
    # It takes longest of all, and alone would keep one core waiting for it at the end.
    items.sort(key=lambda item: item.path.name != "test_watch.py")


@pytest.fixture(autouse=True, scope="session")
def _own_audit_log(tmp_path_factory):
    """Keep what tests do out of an audit log of the project, also in the programs that they start."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(audit_log.VARIABLE, str(tmp_path_factory.mktemp("audit") / "log"))
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def make_params(tmp_path):
    """Return what loads a variation of the project's params.yaml: `make_params({"train.epochs": 1})`."""
    return lambda changes=None: params_module.load(write_params(tmp_path, changes))


@pytest.fixture
def params(make_params):
    return make_params()


@pytest.fixture
def export(tmp_path, rng):
    return write_export(tmp_path / "data", rng)


@pytest.fixture
def unpack(tmp_path):
    """Unpack one of the real image sets; skips where the folder of real images is not beside the project."""

    def unpack(name, target=tmp_path / "real"):
        archive = SHARED / f"{name}.zip"
        if not archive.exists():
            pytest.skip(f"the real images are not here: {archive}")
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)
        return target

    return unpack
