"""What the pipeline writes to the MLflow registry and the service reads there: names, aliases, bundles of versions."""

PREFIX = "fatescope-"
"""Registered models and experiments are called this, followed by the task."""
CHAMPION = "champion"
"""Alias of the version that is served: the last one that passed the gate."""
CHALLENGER = "challenger"
"""Alias of the version that was registered last."""


def model_name(task: str) -> str:
    """Return the name of the registered model of `task`."""
    return PREFIX + task


def bundle_uri(task: str, version: str) -> str:
    """Return the address of the bundle of a version, given by its number, for `mlflow.artifacts`."""
    return f"models:/{model_name(task)}/{version}/artifacts/bundle"
