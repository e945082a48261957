"""What the tests of all packages share: made-up cells, the project's own parameters, and the real images."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ruamel.yaml import YAML

from fatescope import config as params_module

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def tiff(pixels, **kwargs):
    """Return the bytes of a TIFF file."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **kwargs)
    return buffer.getvalue()


def draw_cell(rng, height=45, width=60, radius=12.0, level=700):
    """Return (height, width) uint16: a dark disc on a noisy background, nothing like a real cell but enough to find."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < radius
    return np.clip(rng.normal(level, 8, (height, width)) - 200 * inside, 0, 4095).astype(np.uint16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write_params(folder, changes=None):
    """Write a variation of the project's params.yaml, such as `{"train.epochs": 1}`, and return its path."""
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        section = content
        for name in parents:
            section = section[name]
        section[last] = value
    # JSON is YAML, and quoting needs no thought.
    (folder / "params.yaml").write_text(json.dumps(content))
    return folder / "params.yaml"


def write_export(folder, rng):
    """Write an export of made-up cells: two classes that differ in size, three groups each, 48 cells, two channels."""
    folder.mkdir()
    for medium, radius in (("a", 8), ("o", 14)):
        for run in (1, 2, 3):
            for number in range(8):
                height, width = rng.integers(40, 50), rng.integers(50, 70)
                pixels = draw_cell(rng, height, width, radius)
                (folder / f"{medium}_1d{run}_{number}_Ch1.ome.tif").write_bytes(tiff(pixels))
                (folder / f"{medium}_1d{run}_{number}_Ch2.ome.tif").write_bytes(tiff(pixels // 2))
    return folder


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
