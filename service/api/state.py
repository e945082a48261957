"""The objects that all requests to a process share."""

from dataclasses import dataclass
from typing import Self

from starlette.types import Scope

from service.api.admission import Admission
from service.api.auth import APIKeyAuth
from service.api.browsers import BrowserGuard
from service.api.feedback import FeedbackStore
from service.inference.model_pool import ModelPool, RunnerClient
from service.inference.prediction_log import PredictionLog
from service.registry import model_store
from service.settings import ServiceSettings


@dataclass(frozen=True)
class ServiceState:
    """What the endpoints and the middleware work with; the lifespan of the application puts it into `app.state`."""

    models: ModelPool
    prediction_log: PredictionLog
    feedback: FeedbackStore
    auth: APIKeyAuth
    browsers: BrowserGuard
    admission: Admission
    max_cells: int
    """Most cells in a request."""

    @classmethod
    def from_settings(cls, settings: ServiceSettings, runner: RunnerClient) -> Self:
        """Make the objects that the settings ask for; no model is loaded yet."""
        return cls(
            models=ModelPool(runner, model_store.store_folder(settings)),
            prediction_log=PredictionLog(settings.records, settings.retention_days),
            feedback=FeedbackStore(settings.feedback, settings.feedback_mb),
            auth=APIKeyAuth(settings.api_keys),
            browsers=BrowserGuard(settings.hosts, active=not settings.api_keys),
            admission=Admission(),
            max_cells=settings.max_cells,
        )


def state_of(scope: Scope) -> ServiceState:
    """Return the state of the application that a request belongs to."""
    state: ServiceState = scope["app"].state.service
    return state
