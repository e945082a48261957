"""The objects that all requests to a process share."""

from dataclasses import dataclass
from typing import Self

from starlette.types import Scope

from service.api.admission import Admission
from service.api.auth import APIKeyAuth
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
    admission: Admission

    @classmethod
    def from_settings(cls, settings: ServiceSettings, runner: RunnerClient) -> Self:
        """Make the objects that the settings ask for; no model is loaded yet."""
        return cls(
            models=ModelPool(runner, model_store.store_folder(settings)),
            prediction_log=PredictionLog(settings.records, settings.retention_days),
            feedback=FeedbackStore(settings.feedback),
            auth=APIKeyAuth(settings.api_keys),
            admission=Admission(),
        )


def state_of(scope: Scope) -> ServiceState:
    """Return the state of the application that a request belongs to."""
    state: ServiceState = scope["app"].state.service
    return state
