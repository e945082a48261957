"""The HTTP application and the runner in the process of the tests: no Bento, no server, no other process."""

import asyncio
from contextlib import contextmanager

from starlette.testclient import TestClient

from service.api.app import build_app
from service.api.state import ServiceState
from service.inference.loaded_models import LoadedModels
from service.inference.local_runner import LocalRunner
from service.settings import ServiceSettings


@contextmanager
def application(folder, bundles, **settings):
    """Yield the application, which serves `bundles` and writes below `folder`; `settings` are those of the service."""
    settings.setdefault("audit_log", folder / "audit_log")
    settings = ServiceSettings(
        bundles=bundles,
        records=folder / "records",
        feedback=folder / "feedback",
        engine="onnxruntime",
        threads=1,
        **settings,
    )
    runner = LocalRunner(LoadedModels(bundles, settings.engine, settings.threads))
    app = build_app()
    app.state.service = state = ServiceState.from_settings(settings, runner)
    asyncio.run(state.models.start())
    yield app
    state.close()


@contextmanager
def connected(app, **options):
    """Yield an HTTP client of an application."""
    with TestClient(app, **options) as client:
        yield client
