"""The objects that all requests to a process share."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from starlette.types import Scope

from fatescope.processes import available_cores
from fatescope.retention import Kept, Place
from service.api.access import Access
from service.api.admission import Admission
from service.api.audit_trail import AuditTrail
from service.api.auth import APIKeyAuth
from service.api.browsers import BrowserGuard
from service.api.feedback import FeedbackStore
from service.api.usage import open_usage
from service.inference.describing import Describer
from service.inference.model_pool import ModelPool
from service.inference.page_decoder import PageDecoder
from service.inference.prediction_log import PredictionLog
from service.inference.served_model import RunnerClient
from service.registry import model_store
from service.settings import ServiceSettings
from service.shadow.canary import Canary
from service.shadow.challenge import challenge
from service.shadow.shadow import Shadow

MAX_DECODERS = 4
"""By default: that many decode more than networks on a CPU take, and a container may see cores that it cannot have."""


@dataclass(frozen=True)
class ServiceState:
    """What the endpoints and the middleware work with; the lifespan of the application puts it into `app.state`."""

    models: ModelPool
    prediction_log: PredictionLog
    feedback: FeedbackStore
    auth: APIKeyAuth
    access: Access
    audit: AuditTrail
    browsers: BrowserGuard
    admission: Admission
    pages: PageDecoder
    describer: Describer
    records: Path | None
    """Folder of the prediction log."""
    max_cells: int
    """Most cells in a request."""
    shadow: Shadow | None = None
    """What challenges the champions; None where nothing is asked to."""
    canary: Canary | None = None
    """What gives challengers a share of the requests; None where they get none."""

    @classmethod
    def from_settings(cls, settings: ServiceSettings, runner: RunnerClient) -> Self:
        """Make the objects that the settings ask for; no model is loaded and no process started yet.

        Raises ParamsError where the file of keys cannot be read, or the endpoint of a language model is set up wrongly.
        """
        describer = Describer.from_environment()
        decoders = min(MAX_DECODERS, max(1, available_cores() // settings.gateways))
        count = decoders if settings.decoders is None else settings.decoders
        pages = PageDecoder.with_processes(count, settings.gateways)
        auth = APIKeyAuth(settings.api_keys, settings.keys)
        usage = open_usage(settings) if auth.active else None
        store = model_store.store_folder(settings)
        shadow, canary = challenge(settings, store) if settings.challenged else (None, None)
        mirror = shadow.offer if shadow else None
        return cls(
            models=ModelPool(runner, store, pages),
            pages=pages,
            prediction_log=PredictionLog(settings.records, settings.retention_days, mirror, pages.describe),
            feedback=FeedbackStore(settings.feedback, settings.feedback_mb),
            auth=auth,
            access=Access(auth, usage),
            audit=AuditTrail(settings.audit_log, usage, kept(settings)),
            browsers=BrowserGuard(settings.hosts, active=not settings.asks_for_key),
            admission=Admission(),
            describer=describer,
            records=settings.records,
            max_cells=settings.max_cells,
            shadow=shadow,
            canary=canary,
        )

    @property
    def unready_reason(self) -> str | None:
        """Return why requests should go elsewhere; None where all can be answered."""
        return "; ".join(filter(None, (self.models.unready_reason, self.pages.unready_reason))) or None

    def close(self) -> None:
        """Write what waits to be written, and stop what goes on beside the requests."""
        with ExitStack() as parts:  # each is closed whatever becomes of the others, the last one first
            for part in (self.describer, self.pages, self.audit, self.prediction_log, self.shadow):
                if part:
                    parts.callback(part.close)


def kept(settings: ServiceSettings) -> Kept:
    """Return what the service keeps where for how long."""
    return Kept(
        records=Place(settings.records, settings.retention_days),
        feedback=Place(settings.feedback, settings.retention_feedback_days),
        queue=Place(settings.records, settings.retention_feedback_days),
        images=Place(settings.feedback, settings.retention_images_days),
        audit_log=Place(settings.audit_log, settings.retention_audit_log_days),
    )


def state_of(scope: Scope) -> ServiceState:
    """Return the state of the application that a request belongs to."""
    state: ServiceState = scope["app"].state.service
    return state
