"""The models that a runner has in memory, and the calls that it answers with them.

A call that fails is the fault of its cells, unless known good input fails too: after MAX_FAILURES calls in a row, the
engine runs the test tensors of its bundle. If they fail, the version is loaded again; if that fails, the process is
ended to be started anew, because an error of a GPU stays with the process. In a process that nobody starts again, the
version is refused instead.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fatescope.errors import BundleError, DataError, FatescopeError
from fatescope.inference.bundle import Bundle
from fatescope.model_registry import model_name
from service.inference import engines, metrics
from service.inference.runner_output import Floats, Readiness, RunnerOutput
from service.registry import model_store
from service.settings import EngineName

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

KEPT_VERSIONS = 2
"""Versions of a task that stay loaded: batches for the previous one may still be in flight."""
MAX_FAILURES = 3
"""Calls in a row that fail before the engine is suspected rather than the cells."""

Pixels = npt.NDArray[np.uint16]
Result = TypeVar("Result")


@dataclass
class _Loaded:
    """A version in memory."""

    bundle: Bundle
    engine: EngineName
    failures: int = 0
    """Calls that have failed since the last one that succeeded."""
    broken: str | None = None
    """Why no more calls are made."""


class LoadedModels:
    """Loads versions from a folder of bundles when they are first asked for; may be called from several threads."""

    def __init__(
        self,
        store: Path,
        engine: EngineName | None,
        threads: int | None,
        end_process: Callable[[], None] | None = None,
    ) -> None:
        """`engine` and `threads` are those of `engines.start`; `end_process` ends a process that is started again."""
        self._store, self._engine, self._threads, self._end_process = store, engine, threads, end_process
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._loading, self._suspecting = threading.Lock(), threading.Lock()

    def prepare(self, task: str, version: str) -> Readiness:
        """Load, check and warm up a version; the reply has the reason if that fails."""
        try:
            loaded = self._get(task, version)
            if loaded.broken:
                # Forgotten first, so that the next attempt loads it anew.
                self._loaded.pop((task, version), None)
                return {"engine": "", "error": loaded.broken}
        except model_store.AbsentVersionError as error:
            return {"engine": "", "error": str(error), "absent": True}
        except FatescopeError as error:
            return {"engine": "", "error": str(error)}
        return {"engine": loaded.engine, "error": None}

    def predict(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the packed RunnerOutput for (B, H, W) pixels."""
        return self._run(
            task, version, lambda bundle: RunnerOutput.from_prediction(bundle.predict(pixels), bundle).pack()
        )

    def explain(self, task: str, version: str, pixels: Pixels) -> Floats:
        """Return the (B, K, h, w) activation maps of (B, H, W) pixels."""
        return self._run(task, version, lambda bundle: bundle.predict(pixels).activation_map)

    def _run(self, task: str, version: str, call: Callable[[Bundle], Result]) -> Result:
        loaded = self._get(task, version)
        if loaded.broken:
            raise BundleError(loaded.broken)
        try:
            result = call(loaded.bundle)
        except DataError:  # pixels of another shape, which no engine has seen
            raise
        except Exception:
            loaded.failures += 1
            if loaded.failures >= MAX_FAILURES:
                self._suspect(task, version, loaded)
            raise
        loaded.failures = 0
        return result

    def _suspect(self, task: str, version: str, loaded: _Loaded) -> None:
        """Try the engine with known good input, and replace it if that fails."""
        with self._suspecting:
            if self._loaded.get((task, version)) is not loaded or loaded.broken or not loaded.failures:
                return  # another thread has done so
            loaded.failures = 0
            if (reason := _fault(loaded.bundle)) is None:
                return  # it was the cells
            name = f"{model_name(task)} version {version}"
            log.error("%s: %s fails on known good input (%s); it is loaded again", name, loaded.engine, reason)
            try:
                folder = model_store.locate(self._store, task, version)
                # The same one: after an error of a GPU, others would run on the CPU, many times slower.
                bundle, engine = engines.start(folder, loaded.engine, self._threads)
            except Exception as error:  # noqa: BLE001  a driver has as many errors as it likes
                loaded.broken = (
                    f"{loaded.engine} fails on known good input ({reason}), also when loaded again ({error})"
                )
                metrics.ENGINE_RESTARTS.labels(task, "refused").inc()
                log.error("%s is not served: %s", name, loaded.broken)  # noqa: TRY400  no trace
                if self._end_process:
                    self._end_process()
            else:
                self._loaded[task, version] = _Loaded(bundle, engine)
                metrics.ENGINE_RESTARTS.labels(task, "reloaded").inc()

    def _get(self, task: str, version: str) -> _Loaded:
        loaded = self._loaded.get((task, version))
        if loaded is not None:
            return loaded
        with self._loading:
            if (task, version) not in self._loaded:
                folder = model_store.locate(self._store, task, version)
                loaded = _Loaded(*engines.start(folder, self._engine, self._threads))
                self._loaded[task, version] = loaded
                log.info("%s version %s: loaded into %s", model_name(task), version, loaded.engine)
                for outdated in [key for key in self._loaded if key[0] == task][:-KEPT_VERSIONS]:
                    del self._loaded[outdated]
            return self._loaded[task, version]


def _fault(bundle: Bundle) -> str | None:
    """Return what is wrong with the engine of a bundle, None if it reproduces the test tensors."""
    try:
        return engines.compare(bundle.predict(bundle.example), bundle.expected)
    except Exception as error:  # noqa: BLE001  as above
        return f"{type(error).__name__}: {error}"
