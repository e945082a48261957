"""Images in the data folder, with what tables of labels and `origin.json` say of them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fatescope import plural
from fatescope.atomic import replacing
from fatescope.data.export_folder import ORIGIN, list_files
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.file_hash import sha256
from fatescope.forgetting.selection import Found, GroupOf, Selection


def _choose(data: Path, selection: Selection, group_of: GroupOf) -> Iterator[tuple[str, str, bool]]:
    """Yield path, SHA-256 and whether it is selected, of each image in the data folder."""
    for path in list_files(data):
        digest = sha256(data / path)
        group = group_of(path) if selection.samples else None
        yield path, digest, selection.has_path(path) or digest in selection.hashes or group in selection.samples


def find(data: Path, selection: Selection, group_of: GroupOf) -> Found:
    """Return which images, rows of tables of labels and names in `origin.json` are selected."""
    files = list(_choose(data, selection, group_of))
    chosen = {path: digest for path, digest, selected in files if selected}
    staying = [path for path, _, selected in files if not selected]
    examples, rows = [str(data / path) for path in chosen], 0
    for path in _sidecars(data):
        gone, _ = _labelled(data / path, path, chosen, staying, selection)
        rows += len(gone)
        examples += [f"{data / path}: {plural.count(len(gone), 'row')}"] if gone else []
    named = [name for name in _named(_origin(data) or {}) if name in selection.samples]
    examples += [f"{data / ORIGIN}: {plural.count(len(named), 'name')}"] if named else []
    digest = hashlib.sha256("".join(path + content for path, content, _ in files).encode())
    selected = len(chosen) + rows + len(named)
    return Found(
        "data",
        len(files),
        selected,
        frozenset(chosen.values()),
        frozenset(),
        frozenset(),
        frozenset(),
        tuple(examples),
        digest.hexdigest(),
    )


def remove(data: Path, selection: Selection, group_of: GroupOf) -> None:
    """Delete the images that are selected, folders that this empties, and what tables and `origin.json` say of them."""
    files = list(_choose(data, selection, group_of))
    chosen = {path: digest for path, digest, selected in files if selected}
    staying = [path for path, _, selected in files if not selected]
    for path in _sidecars(data):
        gone, kept = _labelled(data / path, path, chosen, staying, selection)
        if gone:
            write_table(data / path, kept)
    for path in chosen:
        (data / path).unlink()
        for folder in (data / path).parents:
            if folder == data or any(folder.iterdir()):
                break
            folder.rmdir()
    if (origin := _origin(data)) is not None:
        # The order of the others stays: on it depends which groups are for the test.
        kept_groups = [name for name in origin.get("groups", []) if name not in selection.samples]
        sources = [source for source in origin.get("sources", []) if _source(source) not in selection.samples]
        changed = origin | {
            key: value for key, value in (("groups", kept_groups), ("sources", sources)) if key in origin
        }
        if changed != origin:
            with replacing(data / ORIGIN) as part:
                part.write_text(json.dumps(changed, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sidecars(data: Path) -> list[str]:
    return [str(path.relative_to(data)) for path in sorted(data.rglob(LABELS))]


def _labelled(
    table: Path, path: str, chosen: Mapping[str, str], staying: Sequence[str], selection: Selection
) -> tuple[dict[str, Label], dict[str, Label]]:
    """Return the rows of a table of labels, at `path` in the data folder, that go and those that stay."""
    gone, kept = dict[str, Label](), dict[str, Label]()
    for name, row in read_table(table).items():
        place = (Path(path).parent / name).as_posix() + ("/" if name.endswith("/") else "")
        emptied = (
            name.endswith("/")
            and any(image.startswith(place) for image in chosen)
            and not any(image.startswith(place) for image in staying)
        )
        goes = place in chosen or emptied or selection.has_path(f"{place}x" if name.endswith("/") else place)
        (gone if goes else kept)[name] = row
    return gone, kept


def _origin(data: Path) -> dict[str, Any] | None:
    path = data / ORIGIN
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return content if isinstance(content, dict) else None


def _named(origin: Mapping[str, Any]) -> list[str]:
    return [*origin.get("groups", []), *map(_source, origin.get("sources", []))]


def _source(source: object) -> str:
    """Return the name of an export without its ending."""
    name = str(source.get("name", "")) if isinstance(source, dict) else ""
    return name if "." not in name else name.rpartition(".")[0]
