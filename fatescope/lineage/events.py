"""Events of OpenLineage; importing this needs the package `openlineage-python`."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import DatasetFacet, RunFacet
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.documentation_job import DocumentationJobFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.uuid import generate_new_uuid

from fatescope.file_hash import sha256
from fatescope.lineage.stage import Stage

log = logging.getLogger(__name__)

NAMESPACE = "OPENLINEAGE_NAMESPACE"
PRODUCER = "https://pypi.org/project/fatescope"


@contextmanager
def told(stage: Stage) -> Iterator[None]:
    """Tell of the beginning and the end of a stage."""
    client, run_id = OpenLineageClient(), str(generate_new_uuid())
    _emit(client, "START", stage, run_id)
    try:
        yield
    except BaseException as error:
        _emit(client, "FAIL" if isinstance(error, Exception) else "ABORT", stage, run_id, error)
        raise
    _emit(client, "COMPLETE", stage, run_id)


def _emit(client: OpenLineageClient, state: str, stage: Stage, run_id: str, error: BaseException | None = None) -> None:
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


def _run(run_id: str, error: BaseException | None) -> Run:
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


def _job(stage: Stage) -> Job:
    kind = JobTypeJobFacet(processingType="BATCH", integration="FATESCOPE", jobType="STAGE", producer=PRODUCER)
    about = DocumentationJobFacet(description=stage.about, producer=PRODUCER)
    return Job(
        namespace=os.environ.get(NAMESPACE, "fatescope"),
        name=stage.name,
        facets={"jobType": kind, "documentation": about},
    )


def _input(path: Path) -> InputDataset:
    return InputDataset(namespace="file", name=str(path.resolve()), facets=_facets(path))


def _output(path: Path, *, done: bool) -> OutputDataset:
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


def _facets(path: Path) -> dict[str, DatasetFacet]:
    """Return the version of a file, its SHA-256; a folder has none, because reading all its files would take long."""
    if not path.is_file():
        return {}
    return {"version": DatasetVersionDatasetFacet(datasetVersion=f"sha256:{sha256(path)}", producer=PRODUCER)}


def _version() -> str:
    try:
        return version("fatescope")
    except PackageNotFoundError:
        return "unknown"
