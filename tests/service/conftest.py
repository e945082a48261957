"""The committed bundles, and a service that serves them."""

import shutil

import pytest

from tests.support.bundles import COMMITTED, EXACT
from tests.support.images import draw_cell
from tests.support.project import ROOT
from tests.support.servers import serving


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "committed"
    shutil.copytree(COMMITTED, folder, ignore=shutil.ignore_patterns("README.md"))
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        yield client


@pytest.fixture
def cell(rng):
    return draw_cell(rng)
