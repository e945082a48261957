import pytest

from tests.support.in_process import application, connected


@pytest.fixture(scope="module")
def app(bundles, tmp_path_factory):
    with application(tmp_path_factory.mktemp("application"), bundles) as app:
        yield app


@pytest.fixture(scope="module")
def client(app):
    """A client of the application in this process; that of `tests/service` goes through `bentoml serve`."""
    with connected(app) as client:
        yield client
