"""The models that a runner has in memory, and the calls that it answers with them."""

import logging
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.errors import FatescopeError
from fatescope.inference.bundle import Bundle
from fatescope.model_registry import model_name
from service.inference import engines
from service.inference.runner_output import Floats, Readiness, RunnerOutput
from service.registry import model_store
from service.settings import EngineName

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

KEPT_VERSIONS = 2
"""Versions of a task that stay loaded: batches for the previous one may still be in flight."""

Pixels = npt.NDArray[np.uint16]


class LoadedModels:
    """Loads versions from a folder of bundles when they are first asked for; may be called from several threads."""

    def __init__(self, store: Path, engine: EngineName | None, threads: int | None) -> None:
        """`engine` and `threads` are those of `engines.start`."""
        self._store, self._engine, self._threads = store, engine, threads
        self._loaded: dict[tuple[str, str], tuple[Bundle, str]] = {}
        self._loading = threading.Lock()

    def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm up a version; the reply has the reason if that fails."""
        try:
            _, engine = self._get(task, version)
        except model_store.AbsentVersionError as error:
            return {"engine": "", "error": str(error), "absent": True}
        except FatescopeError as error:
            return {"engine": "", "error": str(error)}
        return {"engine": engine, "error": None}

    def predict(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the packed RunnerOutput for (B, H, W) pixels."""
        bundle, _ = self._get(task, version)
        return RunnerOutput.from_prediction(bundle.predict(pixels), bundle).pack()

    def explain(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""
        bundle, _ = self._get(task, version)
        return bundle.predict(pixels).activation_map

    def _get(self, task: str, version: str) -> tuple[Bundle, str]:
        loaded = self._loaded.get((task, version))
        if loaded is not None:
            return loaded
        with self._loading:
            if (task, version) not in self._loaded:
                folder = model_store.locate(self._store, task, version)
                self._loaded[task, version] = engines.start(folder, self._engine, self._threads)
                name, engine = model_name(task), self._loaded[task, version][1]
                log.info("%s version %s: loaded into %s", name, version, engine)
                for outdated in [key for key in self._loaded if key[0] == task][:-KEPT_VERSIONS]:
                    del self._loaded[outdated]
            return self._loaded[task, version]
