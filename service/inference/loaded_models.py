"""The models that a runner has in memory, and the calls that it answers with them.

A call that fails is the fault of its cells, unless known good input fails too: after MAX_FAILURES calls in a row, or at
once after an error of CUDA, the engine runs the test tensors of its bundle. If they fail, the version is loaded again;
if that fails, the process is ended to be started anew. So it is without further tries after an error of a GPU that
stays with the process. In a process that nobody starts again, the version is refused instead.
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
from fatescope.inference import cuda
from fatescope.inference.bundle import Bundle
from fatescope.inference.engine_names import GPU_ENGINES, EngineChoice, EngineName
from fatescope.model_registry import model_name
from service import tracing
from service.inference import engines, metrics
from service.inference.runner_output import Floats, Readiness, RunnerOutput
from service.registry import model_store, signatures

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
        engine: EngineChoice | None,
        threads: int | None,
        end_process: Callable[[], None] | None = None,
        memory_share: float = cuda.MEMORY_SHARE,
    ) -> None:
        """`end_process` ends a process that is started again; the other arguments are those of `engines.start`."""
        self._store, self._engine, self._threads, self._end_process = store, engine, threads, end_process
        self._memory_share = memory_share
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._refused = False
        """Whether no engine could run the last version that was asked for."""
        self._gpu_lost = False
        self._loading, self._suspecting = threading.Lock(), threading.Lock()

    @property
    def lacks_gpu(self) -> bool:
        """Return whether nothing is loaded because no engine runs on the GPU that was asked for."""
        return self._engine in {"gpu", *GPU_ENGINES} and self._refused and not self._loaded

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

    def predict(self, task: str, version: str, pixels: Pixels, traceparent: str | None = None) -> Floats:
        """Return the packed RunnerOutput for (B, H, W) pixels; `traceparent` is the caller, where that is traced."""

        def call(bundle: Bundle) -> Floats:
            return RunnerOutput.from_prediction(bundle.predict(pixels, maps=False), bundle).pack()

        with tracing.run_for(traceparent, "inference", task=task, version=version, cells=len(pixels)):
            return self._run(task, version, call)

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
        except Exception as error:
            loaded.failures += 1
            on_gpu = loaded.engine in GPU_ENGINES
            if on_gpu and cuda.is_fatal(error):
                self._lose_gpu(task, version, cuda.describe(error), loaded)
            elif loaded.failures >= MAX_FAILURES or (on_gpu and cuda.is_of_gpu(error)):
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
                bundle, engine = engines.start(folder, loaded.engine, self._threads, self._memory_share)
            except Exception as error:  # noqa: BLE001  a driver has as many errors as it likes
                again = f"{loaded.engine} fails on known good input ({reason}), also when loaded again ({error})"
                self._give_up(task, version, again, loaded)
            else:
                self._loaded[task, version] = _Loaded(bundle, engine)
                metrics.ENGINE_RESTARTS.labels(task, "reloaded").inc()

    def _lose_gpu(self, task: str, version: str, error: str, loaded: _Loaded) -> None:
        """Give up after an error of the GPU that stays with this process: nothing that it loads can use the GPU."""
        with self._suspecting:
            if not loaded.broken:
                self._give_up(task, version, f"the GPU is lost to this process ({error})", loaded)

    def _give_up(self, task: str, version: str, reason: str, loaded: _Loaded) -> None:
        """End this process, or refuse the version where nobody would start the process again."""
        loaded.broken = reason
        metrics.ENGINE_RESTARTS.labels(task, "refused").inc()
        log.error("%s version %s is not served: %s", model_name(task), version, reason)
        if self._end_process:
            self._end_process()

    def _get(self, task: str, version: str) -> _Loaded:
        if self._gpu_lost and self._end_process:
            self._end_process()
        loaded = self._loaded.get((task, version))
        if loaded is not None:
            return loaded
        with self._loading:
            # Looked up once: another thread, in `prepare`, may forget a version that is broken at any moment.
            loaded = self._loaded.get((task, version))
            if loaded is None:
                loaded = self._load(task, version)
                self._loaded[task, version] = loaded
                log.info("%s version %s: loaded into %s", model_name(task), version, loaded.engine)
                unused = self._engine is None and engines.gpus() > 0 and loaded.engine not in GPU_ENGINES
                metrics.publish_engine(task, loaded.engine, gpu_unused=unused)
                for outdated in [key for key in list(self._loaded) if key[0] == task][:-KEPT_VERSIONS]:
                    self._loaded.pop(outdated, None)
            return loaded

    def _load(self, task: str, version: str) -> _Loaded:
        folder = model_store.locate(self._store, task, version)
        signatures.verify(folder, registry=model_store.follows_registry(self._store))
        try:
            loaded = _Loaded(*engines.start(folder, self._engine, self._threads, self._memory_share))
        except engines.NoEngineError as error:
            self._refused = True
            if isinstance(error, engines.GpuLostError):
                # The process is ended by the next call: the gateway has to hear first that it is this version, or it
                # would ask for it again at once, and the version that it replaces would be served no more.
                self._gpu_lost = True
                metrics.ENGINE_RESTARTS.labels(task, "refused").inc()
                log.error("the GPU is lost to this process: %s", error)  # noqa: TRY400  no trace
            raise
        self._refused = False
        return loaded


def _fault(bundle: Bundle) -> str | None:
    """Return what is wrong with the engine of a bundle, None if it reproduces the test tensors."""
    try:
        return engines.compare(bundle.predict(bundle.example), bundle.expected)
    except Exception as error:  # noqa: BLE001  as above
        return cuda.describe(error)
