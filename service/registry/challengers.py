"""The challengers: a store of bundles inside the store, `STORE/.challengers`, laid out as that of the champions.

Where the bundles come from the registry, it has for each task that is served the version with the alias `challenger`,
unless that is the champion too. A folder of bundles may have one bundle folder a task there.
"""

from pathlib import Path

from fatescope.inference.bundle import Spec
from service.registry import model_store
from service.registry.model_store import Champion

FOLDER = ".challengers"


def folder(store: Path) -> Path:
    """Return the store of the challengers."""
    return store / FOLDER


def read_challengers(store: Path) -> dict[str, Champion]:
    """Return task → version that challenges the one in service; raises BundleError where a folder is no bundle."""
    own = folder(store)
    return model_store.read_champions(own) if own.is_dir() else {}


def why_incomparable(champion: Spec, challenger: Spec) -> str | None:
    """Return why the answers of two versions cannot be compared on the same cells, None if they can."""
    if sorted(champion.classes) != sorted(challenger.classes):
        return f"its classes are {challenger.classes}, those of the champion {champion.classes}"
    if champion.inputs != challenger.inputs or champion.kinds != challenger.kinds:
        return f"it takes the channels {challenger.inputs}, the champion {champion.inputs}"
    return None
