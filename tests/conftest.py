"""What the tests of all packages share: made-up cells, the project's own parameters, and the real images."""

import zipfile

import numpy as np
import pytest

from fatescope import config as params_module
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import SHARED


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
