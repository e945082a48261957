"""What the tests of the service share: bundles of untrained networks, and a service that serves them."""

import pytest

from tests.support.bundles import CLASSES, EXACT
from tests.support.images import draw_cell
from tests.support.project import ROOT
from tests.support.servers import serving
from tests.support.untrained import write_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "binary", "binary", ["astrocyte", "oligodendrocyte"])
    write_bundle(folder / "multiclass", "multiclass", CLASSES)
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        yield client


@pytest.fixture
def cell(rng):
    return draw_cell(rng)
