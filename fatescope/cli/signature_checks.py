"""What `fatescope doctor` finds of signatures: the key that signs, who is trusted, and what the registry names."""

import os
from pathlib import Path

from fatescope import artifact_places
from fatescope.cli.engine_checks import Check
from fatescope.errors import BundleError, FatescopeError

NAME = "signatures"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow would ask a server that is away for minutes."""


def check_signatures(folder: Path, tracking_uri: str | None) -> list[Check]:
    """Check the key, the trust, and the champions of the registry that `folder` or the environment has."""
    try:
        from fatescope import secret_files
        from fatescope.signing import keys
        from fatescope.signing.settings import SigningSettings

        settings = SigningSettings.read()
        path, trust = keys.key_path(settings), keys.trusted(settings)
    except ModuleNotFoundError:
        return []  # neither pipeline nor service is installed here
    except FatescopeError as error:
        return [Check(NAME, "warning", str(error))]
    checks = [Check("signing key", "ok", f"{path}: made when a version is registered here for the first time")]
    if path.exists():
        try:
            shown = f"{path}: {keys.fingerprint(keys.public_half(path))[: keys.SHOWN]}"
        except FatescopeError as error:
            return [Check("signing key", "warning", str(error))]
        checks = [Check("signing key", "ok", shown)]
        if secret_files.is_open_to_others(path):
            detail = f"{shown}; others than its owner may read it"
            checks = [Check("signing key", "warning", detail, remedy=f"chmod 600 {path}")]
    trusted = [f"key {fingerprint[: keys.SHOWN]}" for fingerprint in trust.keys]
    trusted += [f"certificates of {certificate}" for certificate in trust.certificates]
    trusted += [f"{trust.identity[0]} by {trust.identity[1]}"] if trust.identity else []
    if not trusted:
        detail = "nobody is trusted, so versions of a registry are used without knowing who made them"
        return [*checks, Check(NAME, "warning", detail, remedy="FATESCOPE_TRUSTED_KEYS=/path/to/key.pub")]
    policy = settings.signatures or "required of versions of a registry"
    checks.append(Check(NAME, "ok", f"{policy}; trusted: {', '.join(trusted)}"))
    if tracking_uri or artifact_places.own_database(folder, tracking_uri):
        checks += check_champions()
    return checks


def check_champions() -> list[Check]:
    """Verify the champion of each task in the registry."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow

        from fatescope.model_registry import CHAMPION, PREFIX, model_name
        from pipelines.registry import tracking, versions

        models = tracking.client().search_registered_models(filter_string=f"name LIKE '{model_name('%')}'")
    except ModuleNotFoundError:
        return []
    except Exception as error:  # noqa: BLE001  databases and servers have as many errors as they like
        return [Check("champions", "warning", f"the registry cannot be read ({str(error).splitlines()[0]})")]
    checks = []
    for model in models:
        if CHAMPION not in model.aliases:
            continue
        task, version = model.name.removeprefix(PREFIX), str(model.aliases[CHAMPION])
        name = f"champion of {task}"
        try:
            with versions.download(task, version) as folder:
                checks.append(_judge(name, version, folder))
        except BundleError as error:
            remedy = f"fatescope models sign {task} {version}, if you trust it; fatescope models rollback {task} if not"
            checks.append(Check(name, "warning", str(error), remedy=remedy))
        except (FatescopeError, mlflow.MlflowException) as error:
            checks.append(Check(name, "warning", str(error).splitlines()[0]))
    return checks


def _judge(name: str, version: str, folder: Path) -> Check:
    from fatescope.signing import signature
    from fatescope.signing.settings import SigningSettings

    verified = signature.verify(folder, SigningSettings.read(), registry=True)
    if verified.signer is None:
        return Check(name, "warning", f"version {version}: no signature was verified")
    return Check(name, "ok", f"version {version}, signed by {verified.signer}")
