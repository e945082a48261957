"""Print the change-control protocol of a task: what may change, how it is tested, who signs."""

from pathlib import Path

from fatescope.config import load
from fatescope.errors import BundleError
from fatescope.model_registry import model_name
from pipelines.registry import versions
from pipelines.registry.protocol import Protocol, draw_up


def protocol(params: Path, task: str, version: str | None) -> Protocol:
    """Return the protocol of `task`, with the results of `version`, a number or an alias, where that is given.

    Raises ParamsError for a task that there is not, and BundleError for a version that there is not, or that the gate
    has not decided on.
    """
    settings = load(params)
    settings.classes(task)
    if version is None:
        return draw_up(task, settings)
    chosen = versions.find(task, version)
    verdict = versions.verdict_of(chosen)
    if verdict is None:
        raise BundleError(f"{model_name(task)} version {chosen.version}: the gate has not decided on it")
    return draw_up(task, settings, verdict)
