"""Whether stages are told of, and what tells of them."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from fatescope.errors import FatescopeError
from fatescope.lineage.stage import Stage

STAGES = "pipelines.stages."
"""The modules whose runs are events."""
VARIABLES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
SETTINGS, FILE = "OPENLINEAGE__TRANSPORT", "openlineage.yml"
"""How the other variables begin that say where events go, and the file that does."""
DISABLED = "OPENLINEAGE_DISABLED"


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
        try:
            from fatescope.lineage.events import told  # noqa: PLC0415  an optional package, which few runs need
        except ModuleNotFoundError as error:
            raise FatescopeError(
                "lineage is set by OPENLINEAGE variables or openlineage.yml, and openlineage-python is not installed; "
                "pip install -e '.[lineage]', or set OPENLINEAGE_DISABLED=true"
            ) from error
        with told(Stage.of(module.removeprefix(STAGES), main, options)):
            main(**options)

    return run
