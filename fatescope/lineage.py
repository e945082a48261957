"""What stages read and wrote, as OpenLineage events: to a server, or to a file as JSON lines.

Off unless the settings of the package `openlineage-python` say where to, the variables of the environment or its file
(https://openlineage.io/docs/client/python): `OPENLINEAGE_URL` for a server, or `OPENLINEAGE__TRANSPORT__TYPE=file` with
`OPENLINEAGE__TRANSPORT__LOG_FILE_PATH`. A stage is a job of the namespace `OPENLINEAGE_NAMESPACE`, by default
`fatescope`, with an event START, and COMPLETE or FAIL when it ends; its paths are datasets of the namespace `file`.

A server that does not answer is a warning: no stage fails because nobody takes notes.
"""

import inspect
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from fatescope.errors import FatescopeError
from fatescope.file_hash import sha256

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run
    from openlineage.client.facet_v2 import DatasetFacet, RunFacet

log = logging.getLogger(__name__)

STAGES = "pipelines.stages."
"""The modules whose runs are events."""
VARIABLES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
SETTINGS, FILE = "OPENLINEAGE__TRANSPORT", "openlineage.yml"
"""How the other variables begin that say where events go, and the file that does."""
NAMESPACE, DISABLED = "OPENLINEAGE_NAMESPACE", "OPENLINEAGE_DISABLED"
PRODUCER = "https://pypi.org/project/fatescope"
WRITES = "writes"
"""What marks an option of a stage as a path that it writes."""


def is_on() -> bool:
    """Return whether any setting says where events go."""
    if os.environ.get(DISABLED, "").strip().lower() == "true":
        return False
    places = (Path(FILE), Path.home() / ".openlineage" / FILE)
    named = any(os.environ.get(name) for name in VARIABLES) or any(name.startswith(SETTINGS) for name in os.environ)
    return named or any(place.is_file() for place in places)


def traced(main: Callable[..., None]) -> Callable[..., None]:
    """Return `main` of a stage with events around it; that of any other program, or where events are off, as it is."""
    spec = main.__globals__.get("__spec__")
    module = getattr(spec, "name", None) or main.__module__
    if not module.startswith(STAGES) or not is_on():
        return main

    @wraps(main)
    def run(**options: Any) -> None:  # noqa: ANN401  those of any stage
        with _told(_Stage.of(module.removeprefix(STAGES), main, options)):
            main(**options)

    return run


@dataclass(frozen=True)
class _Stage:
    """A run of a stage."""

    name: str
    about: str
    reads: list[Path]
    writes: list[Path]

    @classmethod
    def of(cls, name: str, main: Callable[..., None], options: dict[str, Any]) -> "_Stage":
        hints = get_type_hints(main, include_extras=True)
        paths = {key: value for key, value in options.items() if isinstance(value, Path)}
        written = {key for key in paths if WRITES in get_args(hints[key])}
        task = options.get("task")
        return cls(
            f"{name}@{task}" if task else name,
            (inspect.getdoc(main) or "").strip(),
            [path for key, path in paths.items() if key not in written],
            [path for key, path in paths.items() if key in written],
        )


@contextmanager
def _told(stage: _Stage) -> Iterator[None]:
    """Tell of the beginning and the end of a stage."""
    try:
        from openlineage.client import OpenLineageClient  # noqa: PLC0415  an optional package
        from openlineage.client.uuid import generate_new_uuid  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FatescopeError(
            "lineage is set by OPENLINEAGE variables or openlineage.yml, and openlineage-python is not installed; "
            "pip install -e '.[lineage]', or set OPENLINEAGE_DISABLED=true"
        ) from error
    client, run_id = OpenLineageClient(), str(generate_new_uuid())
    _emit(client, "START", stage, run_id)
    try:
        yield
    except BaseException as error:
        _emit(client, "FAIL" if isinstance(error, Exception) else "ABORT", stage, run_id, error)
        raise
    _emit(client, "COMPLETE", stage, run_id)


def _emit(
    client: "OpenLineageClient", state: str, stage: _Stage, run_id: str, error: BaseException | None = None
) -> None:
    from openlineage.client.event_v2 import RunEvent, RunState  # noqa: PLC0415  an optional package

    done = state == "COMPLETE"
    try:
        client.emit(
            RunEvent(
                eventType=RunState[state],
                eventTime=datetime.now(UTC).isoformat(),
                producer=PRODUCER,
                run=_run(run_id, error),
                job=_job(stage),
                inputs=[_input(path) for path in stage.reads],
                outputs=[_output(path, done=done) for path in stage.writes],
            )
        )
    except Exception as problem:  # noqa: BLE001  each transport fails in ways of its own
        log.warning("lineage: the event %s of %s was not taken (%s)", state, stage.name, problem)


def _run(run_id: str, error: BaseException | None) -> "Run":
    from openlineage.client.event_v2 import Run  # noqa: PLC0415  an optional package
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet  # noqa: PLC0415
    from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet  # noqa: PLC0415

    facets: dict[str, RunFacet] = {
        "processing_engine": ProcessingEngineRunFacet(version=_version(), name="fatescope", producer=PRODUCER)
    }
    if error is not None:
        trace = "".join(traceback.format_exception(error))
        facets["errorMessage"] = ErrorMessageRunFacet(
            message=f"{type(error).__name__}: {error}",
            programmingLanguage="python",
            stackTrace=trace,
            producer=PRODUCER,
        )
    return Run(runId=run_id, facets=facets)


def _job(stage: _Stage) -> "Job":
    from openlineage.client.event_v2 import Job  # noqa: PLC0415  an optional package
    from openlineage.client.generated.documentation_job import DocumentationJobFacet  # noqa: PLC0415
    from openlineage.client.generated.job_type_job import JobTypeJobFacet  # noqa: PLC0415

    kind = JobTypeJobFacet(processingType="BATCH", integration="FATESCOPE", jobType="STAGE", producer=PRODUCER)
    about = DocumentationJobFacet(description=stage.about, producer=PRODUCER)
    return Job(
        namespace=os.environ.get(NAMESPACE, "fatescope"),
        name=stage.name,
        facets={"jobType": kind, "documentation": about},
    )


def _input(path: Path) -> "InputDataset":
    from openlineage.client.event_v2 import InputDataset  # noqa: PLC0415  an optional package

    return InputDataset(namespace="file", name=str(path.resolve()), facets=_facets(path))


def _output(path: Path, *, done: bool) -> "OutputDataset":
    from openlineage.client.event_v2 import OutputDataset  # noqa: PLC0415  an optional package
    from openlineage.client.generated.output_statistics_output_dataset import (  # noqa: PLC0415
        OutputStatisticsOutputDatasetFacet,
    )

    if not done or not path.exists():
        return OutputDataset(namespace="file", name=str(path.resolve()))
    sizes = [file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    written = OutputStatisticsOutputDatasetFacet(size=sum(sizes), fileCount=len(sizes), producer=PRODUCER)
    return OutputDataset(
        namespace="file",
        name=str(path.resolve()),
        facets=_facets(path),
        outputFacets={"outputStatistics": written},
    )


def _facets(path: Path) -> "dict[str, DatasetFacet]":
    """Return the version of a file, its SHA-256; a folder has none, because reading all its files would take long."""
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet  # noqa: PLC0415

    if not path.is_file():
        return {}
    return {"version": DatasetVersionDatasetFacet(datasetVersion=f"sha256:{sha256(path)}", producer=PRODUCER)}


def _version() -> str:
    try:
        return version("fatescope")
    except PackageNotFoundError:
        return "unknown"
