"""Sign a bundle, log it to MLflow as a model, and register it as a version."""

import json
import logging
import tempfile
from importlib.metadata import requires, version
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import Schema, TensorSpec
from packaging.requirements import Requirement

import fatescope
from fatescope import audit_log
from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import model_name
from fatescope.signing import keys, signature
from fatescope.signing.settings import SigningSettings
from pipelines.evaluation.metrics_report import Metrics
from pipelines.registry import tracking, versions
from pipelines.registry.records import cut

log = logging.getLogger(__name__)

MODEL_CODE = Path(__file__).with_name("pyfunc.py")
"""The file that MLflow runs to load the model."""
SIGNED_BY = "signed_by"
"""The tag with the signer of a version, for people."""
_LOGGED = "models:/"
"""How the source of a version begins that is a logged model of MLflow 3."""
LIBRARY = Path(fatescope.__file__).parent
"""What that file imports: a copy of the library goes into the registry with each version, safe from later changes."""


def log_version(task: str, folder: Path, run_id: str, spec: Spec, metrics: Metrics, tags: dict[str, str]) -> str:
    """Sign the bundle in `folder`, log it to its run, register it, and return the number of the version.

    The version gets `tags`, which have `splits_hash`, and those that follow from `spec` and `metrics`.
    """
    signer = _sign(folder)
    with tracking.resumed(task, spec.split, run_id) as tracked:
        _log_data(tracked.run_id, spec, tags["splits_hash"])
        info = _log_model(folder, spec, model_name(task))
    number = str(info.registered_model_version)
    versions.set_tags(task, number, tags | _tags(spec, metrics))
    _say_signed(task, number, signer)
    return number


def log_unsigned(folder: Path, spec: Spec) -> str:
    """Log the bundle in `folder` to the current run as it is, register it, and return the number of the version."""
    return str(_log_model(folder, spec, model_name(spec.task)).registered_model_version)


def restore_version(task: str, number: str, folder: Path, run_id: str, spec: Spec) -> None:
    """Put the bundle in `folder`, as a model that MLflow can load, where the lost files of a version have to be.

    Raises BundleError for a version of MLflow 2, which has no place of its own for them.
    """
    client = tracking.client()
    source = str(client.get_model_version(model_name(task), number).source)
    if not source.startswith(_LOGGED):
        raise BundleError(f"{model_name(task)}: the files of version {number} are gone, and {source} takes no others")
    signer = _sign(folder)
    with tracking.resumed(task, spec.split, run_id):
        info = _log_model(folder, spec, None)
    try:
        with tempfile.TemporaryDirectory(prefix="fatescope-") as place:
            # By its place: by its name, MLflow would add a file that says where it was downloaded from.
            logged = client.get_logged_model(info.model_id).artifact_location
            model = Path(mlflow.artifacts.download_artifacts(logged, dst_path=place))
            description = model / "MLmodel"
            lost = source.removeprefix(_LOGGED)
            named = description.read_text(encoding="utf-8").replace(info.model_id, lost)
            description.write_text(named, encoding="utf-8")
            client.log_model_artifacts(lost, str(model))
    finally:
        client.delete_logged_model(info.model_id)
    _say_signed(task, number, signer)


def sign_version(task: str, version: str) -> tuple[str, str]:
    """Sign the bundle of a version that is registered, a number or an alias; return its number and the signer.

    Nothing but the signature is changed. Raises BundleError for one that is damaged, or was signed and changed since.
    """
    name, client = model_name(task), tracking.client()
    number = versions.number_of(task, version)
    with versions.download(task, number, unsigned=True) as folder:
        found = bundle.open_spec(folder)
        if found.task != task:
            raise BundleError(f"{name}: version {number} is a bundle of task '{found.task}'; register one of its own")
        signer = _sign(folder)
        place = get_artifact_repository(client.get_model_version_download_uri(name, number))
        place.log_artifact(str(folder / signature.SIGNATURE), "artifacts/bundle")
    _say_signed(task, number, signer)
    return number, signer


def _sign(folder: Path) -> str:
    settings = SigningSettings.read()
    path = keys.key_path(settings)
    is_new = settings.sign_with == "key" and not path.exists()
    signer = signature.sign(folder, settings)
    if is_new:
        log.warning(
            "made the key of this installation, %s: from now on it signs what is registered here, and versions without "
            "a signature are refused; sign earlier ones that you trust with `fatescope models sign TASK VERSION`",
            path,
        )
    return signer


def _say_signed(task: str, number: str, signer: str) -> None:
    """Enter a signature into the audit log, and the signer among the tags of the version."""
    audit_log.append(audit_log.SIGNATURE, {"model": model_name(task), "version": number}, evidence={"signer": signer})
    versions.set_tags(task, number, {SIGNED_BY: signer})


def _log_model(folder: Path, spec: Spec, registered: str | None) -> ModelInfo:
    """Log the bundle in `folder` to the current run as a model, and register it by the name `registered`, if any."""
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(MODEL_CODE),
        artifacts={"bundle": str(folder)},
        code_paths=[str(LIBRARY)],
        signature=ModelSignature(Schema([TensorSpec(np.dtype(np.uint16), (-1, *spec.shape), "pixels")])),
        input_example={"pixels": bundle.load(folder, threads=1).example[:1]},
        pip_requirements=_requirements(),
        registered_model_name=registered,
    )


def _log_data(run_id: str, spec: Spec, splits_hash: str) -> None:
    """Log the data that the model was trained on as an input of the run."""
    source = json.dumps({"data_hash": spec.data_hash, "splits_hash": splits_hash})
    # MLflow keeps 36 characters of a digest.
    data = Dataset(name="cells", digest=spec.data_hash[-36:], source_type="dvc", source=source)
    context = [InputTag("mlflow.data.context", "training")]
    tracking.client().log_inputs(run_id, [DatasetInput(dataset=data, tags=context)])


def _tags(spec: Spec, metrics: Metrics) -> dict[str, str]:
    served = metrics.schemes[spec.split]
    limits = served.intervals["balanced_accuracy"]
    # Without an interval the version has neither tag.
    ends = (
        {}
        if limits is None
        else {f"balanced_accuracy.{end}": f"{limits[i]:.4f}" for i, end in enumerate(("low", "high"))}
    )
    return {
        "data_hash": spec.data_hash,
        "git_commit": spec.git_commit,
        "split": spec.split,
        "confounded": cut(", ".join(spec.confounded), versions.MAX_TAG),
        "audit": metrics.audit.verdict,
        "balanced_accuracy": f"{served.balanced_accuracy:.4f}",
    } | ends


def _requirements() -> list[str]:
    """Return the installed versions of the core dependencies of fatescope."""
    needed = [Requirement(line) for line in requires("fatescope") or [] if "extra ==" not in line]
    return [f"{requirement.name}=={version(requirement.name)}" for requirement in needed]
