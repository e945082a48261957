"""Make the challengers of a gateway as its settings ask for them."""

import sys
from collections.abc import Callable
from pathlib import Path

from fatescope.inference.engine_names import GPU_ENGINES, EngineChoice
from service.registry import challengers, model_store
from service.settings import ServiceSettings
from service.shadow.canary import Canary
from service.shadow.shadow import BATCH, CANARY_BATCH, Shadow

_WITHOUT_RECORDS = ".canary"


def challenge(settings: ServiceSettings, store: Path) -> tuple[Shadow, Canary | None]:
    """Return what the settings ask for; the process of the challengers is not started yet."""
    batch = CANARY_BATCH if settings.canary else BATCH
    shadow = Shadow(store, _worker_command(settings), everything=settings.shadow, batch=batch)
    if not settings.canary:
        return shadow, None
    # Not where the bundles are: another file in a bundle is not what was signed, and old versions are deleted.
    folder = settings.records or challengers.folder(store) / _WITHOUT_RECORDS
    return shadow, Canary(shadow, folder, settings.canary, settings.canary_by, settings.canary_limit_s)


def _worker_command(settings: ServiceSettings) -> Callable[[int], list[str]]:
    """Return the command of the process of the challengers, which gets the number of a file descriptor."""
    engine: EngineChoice | None = settings.engine
    chosen = engine if engine and engine not in {"gpu", *GPU_ENGINES} else "any"
    store = challengers.folder(model_store.store_folder(settings))
    # Requests wait for a challenger that answers some of them.
    priority = "normal" if settings.canary else "idle"
    arguments = [str(store.absolute()), str(settings.records or "off"), chosen, priority]
    return lambda descriptor: [sys.executable, "-m", "service.shadow.worker", str(descriptor), *arguments]
