"""Corrections, and their images beside them."""

import hashlib
from pathlib import Path

from fatescope import plural
from fatescope.data import corrections
from fatescope.data.export_folder import CORRECTIONS
from fatescope.data.sidecar import LABELS
from fatescope.file_hash import sha256
from fatescope.forgetting.selection import Found, Selection
from fatescope.inference.names import cell_of


def _is_corrected(line: corrections.Line, selection: Selection) -> bool:
    # The folder of a cell stands before its path.
    path = str(line.get("path") or "").partition("/")[2]
    return (
        line.get("sha256") in selection.hashes
        or line.get("group") in selection.samples
        or str(line.get("image_hash")) in selection.pixels
        or selection.has_answer(cell_of(str(line.get("cell") or "")))
        or line.get("request_id") in selection.requests
        or bool(path and selection.has_path(path))
    )


def _orphans(folder: Path, selection: Selection) -> list[Path]:
    """Return folders of images beside the corrections whose cell or path is selected, whatever the lines say."""
    own = {digest[:12] for digest in selection.hashes}
    return [
        path
        for path in folder.iterdir()
        if path.is_dir()
        and (
            path.name in own
            or any(selection.has_path(str(image.relative_to(path))) for image in path.rglob("*") if image.is_file())
        )
    ]


def find(folder: Path, selection: Selection) -> Found:
    """Return which corrections, and images beside them, are selected."""
    lines = list(corrections.read(folder))
    chosen = [line for line in lines if _is_corrected(line, selection)]
    images = [path for place in _orphans(folder, selection) for path in place.rglob("*") if path.is_file()]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    examples = [f"{folder / CORRECTIONS}: {plural.count(len(chosen), 'line')}"] if chosen else []
    digest = hashlib.sha256("".join(f"{path.relative_to(folder)}{sha256(path)}" for path in files).encode())
    hashes = frozenset(str(line["sha256"]) for line in chosen if line.get("sha256"))
    pixels = frozenset(str(line["image_hash"]) for line in chosen if line.get("image_hash") is not None)
    kept = len([path for path in files if path.name not in (CORRECTIONS, LABELS)])
    return Found(
        "feedback", len(lines) + kept, len(chosen) + len(images), hashes, frozenset(), pixels,
        # Whoever sends a correction chooses the id: what others have answered to it is found by pixels alone.
        frozenset(), (*examples, *map(str, images)), digest.hexdigest(),
    )  # fmt: skip


def remove(folder: Path, selection: Selection) -> None:
    """Delete the corrections that are selected, with their images; a service may append others meanwhile."""
    corrections.thin(folder, keep=lambda line: not _is_corrected(line, selection))
    with corrections.locked(folder):
        corrections.remove_images(folder, {path.name for path in _orphans(folder, selection)})
