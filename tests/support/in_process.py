"""The HTTP application and the runner in the process of the tests: no Bento, no server, no other process."""

import asyncio
from contextlib import contextmanager

from starlette.testclient import TestClient

from service.api.app import build_app
from service.api.state import ServiceState
from service.inference.loaded_models import LoadedModels
from service.settings import ServiceSettings


class InProcessRunner:
    """The calls of the runner, answered by threads of this process."""

    def __init__(self, models):
        self._models = models

    async def prepare(self, task, version):
        return await asyncio.to_thread(self._models.prepare, task, version)

    async def predict(self, task, version, pixels):
        return await asyncio.to_thread(self._models.predict, task, version, pixels)

    async def explain(self, task, version, pixels):
        return await asyncio.to_thread(self._models.explain, task, version, pixels)

    async def keep_alive(self):
        pass


@contextmanager
def application(folder, bundles, **settings):
    """Yield the application, which serves `bundles` and writes below `folder`; `settings` are those of the service."""
    settings = ServiceSettings(
        bundles=bundles,
        records=folder / "records",
        feedback=folder / "feedback",
        engine="onnxruntime",
        threads=1,
        **settings,
    )
    runner = InProcessRunner(LoadedModels(bundles, settings.engine, settings.threads))
    app = build_app()
    app.state.service = state = ServiceState.from_settings(settings, runner)
    asyncio.run(state.models.start())
    yield app
    state.prediction_log.close()


@contextmanager
def connected(app, **options):
    """Yield an HTTP client of an application."""
    with TestClient(app, **options) as client:
        yield client
