"""Delete a person's sample from what Fatescope keeps beside the service and the pipeline, and prove it.

What is sought is given by names of samples (a folder in paths, or an acquisition group), requests, patterns of paths
and SHA-256 of images; the hashes of all images that are found that way are sought too, so that a copy under another
name goes with them. Places:

| place | what goes |
|---|---|
| `records`, `incidents` | rows of the prediction log, of challengers, of the queue and of windows of incidents |
| `feedback` | corrections, their images, and rows of the table of labels |
| `data` | images, rows of tables of labels, and names of groups and exports in `origin.json` that nothing is left of |
| `artifacts` | cells that `ingest` read, with their pixels, and rows of other tables about them |
| other folders that are named | rows of Parquet files, such as those that `fatescope score` writes |

Files are replaced as a whole, so that a service, an exporter or a stage that reads them sees the old one or the new.
Afterwards all places are searched again. Bundles are left alone: they would be damaged. `UNREACHABLE` says what else
is.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import audit_log
from fatescope.atomic import replacing
from fatescope.data import corrections
from fatescope.data.dataset import MANIFEST, PIXELS
from fatescope.data.folders import fresh_folder
from fatescope.data.names import normalise
from fatescope.data.paths import CORRECTIONS, ORIGIN, list_files
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.errors import DataError
from fatescope.inference import label_queue
from fatescope.inference.names import cell_id, cell_of

CELL = "cell_id"
PIXELS_OF = ("pixel_hash", "image_hash")
"""Columns with a hash of the pixels: of the manifest, and of a prediction log that has one."""
PATHS, HASHES, SAMPLES, REQUESTS = ("path", "file", CELL), ("sha256", "image_sha256"), ("group", "sample"), (
    "request_id",
)  # fmt: skip
"""Columns of tables that name a cell."""
SETTLE_S = 12.0
"""A service writes its predictions to the disk within 10 s."""
_FRESH_S = 60.0
_ROWS = 65_536
_CELLS = 4096

UNREACHABLE = {
    "the cache of DVC, which has earlier versions of the data": "dvc gc --workspace --force",
    "remotes of DVC": "dvc gc --workspace --cloud --force",
    "versions in MLflow: their bundles have test cells and a reference": "retrain, then delete the versions that were "
    "trained on the sample in MLflow, and run mlflow gc",
    "bundles and reports here, made of the data as it was": "fatescope repro",
    "runs of incidents in MLflow, with a copy of the window": "mlflow runs delete --run-id ID, for the ID in "
    "incidents/*/mlflow_run.txt, and mlflow gc",
    "rows of the prediction log of requests that were not named": "name them with --request; answers and the log of "
    "the service have the number",
    "an object of a .cif or .rif alone": "name the file with --path; it goes as a whole",
    "backups, copies elsewhere, results that people downloaded": "by hand",
}
"""What this does not reach → what to do there."""


@dataclass(frozen=True)
class Selection:
    """What is to go."""

    samples: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    """Patterns as in a shell, of relative paths with `/`, or of the end of them."""
    hashes: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    """Cells in tables that were found by one of the others."""
    pixels: frozenset[str] = frozenset()
    """Hashes of their pixels, as text."""
    answers: frozenset[str] = frozenset()
    """Ids that their cells have in answers."""

    def has_answer(self, cell: str) -> bool:
        """Return whether a cell is selected by its id, which begins with the number of its request."""
        return bool(cell) and (cell in self.answers or cell.rpartition("-")[0] in self.requests)

    def has_path(self, path: str) -> bool:
        """Return whether a path, or a cell that is named after it, is selected."""
        path = normalise(path.partition("#")[0])
        parts = path.split("/")
        return not self.samples.isdisjoint(parts[:-1]) or any(
            fnmatchcase("/".join(parts[start:]), pattern) for pattern in self.paths for start in range(len(parts))
        )

    def is_empty(self) -> bool:
        """Return whether it selects nothing."""
        return not (self.samples or self.requests or self.paths or self.hashes)

    def counts(self) -> dict[str, int]:
        """Return how many of each kind: nothing that tells of whom."""
        return {name: len(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class Found:
    """What is selected in a place."""

    place: str
    items: int
    """Rows, corrections and files of images that there are in the place."""
    selected: int
    hashes: frozenset[str]
    """Of the images that are selected."""
    cells: frozenset[str]
    """Their names in tables."""
    pixels: frozenset[str]
    """Hashes of their pixels."""
    answers: frozenset[str]
    """Ids of their cells in answers."""
    examples: tuple[str, ...]
    """Where they are, some of them."""
    digest: str
    """SHA-256 of the place: of the names and the content of its files."""


@dataclass(frozen=True)
class Line:
    """The line of a place in a proof: nothing in it tells of whom."""

    place: str
    items_before: int
    found: int
    items_after: int
    remaining: int
    digest_before: str
    digest_after: str


@dataclass(frozen=True)
class Places:
    """Where to look; None for what there is not."""

    records: Path | None = None
    incidents: Path | None = None
    feedback: Path | None = None
    data: Path | None = None
    artifacts: Path | None = None
    others: tuple[Path, ...] = ()


GroupOf = Callable[[str], str | None]
"""Returns the acquisition group that the path of an image says."""


def find(places: Places, selection: Selection, group_of: GroupOf = lambda _: None) -> tuple[list[Found], Selection]:
    """Return what is selected in each place, and the selection with the hashes of the images that were found."""
    found = _find_all(places, selection, group_of)
    while True:
        known = {
            name: getattr(selection, name).union(*(getattr(one, name) for one in found))
            for name in ("hashes", "cells", "pixels", "answers")
        }
        if all(getattr(selection, name) == values for name, values in known.items()):
            return found, selection
        selection = replace(selection, **known)
        found = _find_all(places, selection, group_of)


def forget(
    places: Places, selection: Selection, who: str, group_of: GroupOf = lambda _: None, settle_s: float = SETTLE_S
) -> dict[str, Any]:
    """Delete what is selected, search again, enter it into the audit log, and return the proof.

    Where a service has written records in the last minute, its last predictions are waited for. The proof has `time`,
    `selection` (how many were given of each kind), `places` (each a `Line`) and `complete`: whether nothing is left.
    """
    if places.records and _is_written_to(places.records):
        time.sleep(settle_s)
    before, selection = find(places, selection, group_of)
    for place, remove in _removers(places, group_of).items():
        if any(one.place == place and one.selected for one in before):
            remove(selection)
    after = _find_all(places, selection, group_of)
    lines = [
        Line(old.place, old.items, old.selected, new.items, new.selected, old.digest, new.digest)
        for old, new in zip(before, after, strict=True)
    ]
    proof: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "selection": selection.counts(),
        "places": [asdict(line) for line in lines],
        "complete": not any(line.remaining for line in lines),
    }
    digest = hashlib.sha256(json.dumps(proof, sort_keys=True).encode()).hexdigest()
    evidence = {
        "complete": proof["complete"],
        "selection": proof["selection"],
        "places": {line.place: {"found": line.found, "remaining": line.remaining} for line in lines},
        "proof_sha256": digest,
    }
    # Neither a name nor a hash of what went: an entry cannot be deleted.
    audit_log.append(audit_log.DELETION, "sample", evidence=evidence, who=who)
    return proof


def _find_all(places: Places, selection: Selection, group_of: GroupOf) -> list[Found]:
    found = []
    for name, folder in _tables(places).items():
        if folder is not None and folder.is_dir():
            found.append(_find_rows(name, folder, selection))
    if places.feedback is not None and places.feedback.is_dir():
        found.append(_find_corrections(places.feedback, selection))
    if places.data is not None and places.data.is_dir():
        found.append(_find_images(places.data, selection, group_of))
    return found


def _tables(places: Places) -> dict[str, Path | None]:
    named = {"records": places.records, "incidents": places.incidents, "artifacts": places.artifacts}
    return named | {str(folder): folder for folder in places.others}


def _removers(places: Places, group_of: GroupOf) -> Mapping[str, Callable[[Selection], None]]:
    removers: dict[str, Callable[[Selection], None]] = {}
    for name, folder in _tables(places).items():
        if folder is not None:
            removers[name] = partial(_remove_rows, folder)
    if (feedback := places.feedback) is not None:
        removers["feedback"] = lambda selection: _remove_corrections(feedback, selection)
    if (data := places.data) is not None:
        removers["data"] = lambda selection: _remove_images(data, selection, group_of)
    return removers


# Tables of rows


def _parquet_files(folder: Path) -> Iterator[Path]:
    """Yield the tables below a folder, but those of bundles, and what is being written."""
    for path in sorted(folder.rglob("*.parquet")):
        parts = path.relative_to(folder).parts
        if "bundle" not in parts and "model" not in parts[:-1] and not any(part.startswith(".") for part in parts):
            yield path


def _selected(table: pa.Table, selection: Selection) -> npt.NDArray[np.bool_]:
    """Return for each row whether one of its columns is selected."""
    chosen = np.zeros(len(table), bool)
    for columns, test in (
        (REQUESTS, selection.requests.__contains__),
        (SAMPLES, selection.samples.__contains__),
        (HASHES, selection.hashes.__contains__),
        (PIXELS_OF, selection.pixels.__contains__),
        (PATHS, lambda value: value in selection.cells or selection.has_path(value)),
    ):
        for name in columns:
            if name in table.column_names:
                values = table[name].to_pylist()
                known = {value: test(str(value)) for value in set(values) if value is not None}
                chosen |= np.fromiter((known.get(value, False) for value in values), bool, len(values))
    if selection.answers or selection.requests:
        chosen |= np.fromiter(map(selection.has_answer, _answers(table)), bool, len(table))
    return chosen


def _answers(table: pa.Table) -> list[str]:
    """Return for each row the id that its cell has in an answer, an empty text where it says none."""
    columns = table.column_names
    # That of a challenger is a row of a call, not the number of a cell.
    if "cell" not in columns or "challenger" in columns:
        return [""] * len(table)
    cells = table["cell"].to_pylist()
    if REQUESTS[0] not in columns:
        # Of the queue; a number alone, as of an object in a file, is none.
        return [cell if isinstance(cell, str) else "" for cell in cells]
    requests = table[REQUESTS[0]].to_pylist()
    return [cell_id(request, cell) if request else "" for request, cell in zip(requests, cells, strict=True)]


def _rows(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield pa.Table.from_batches([batch])


def _find_rows(name: str, folder: Path, selection: Selection) -> Found:
    items, selected, examples, digest = 0, 0, list[str](), hashlib.sha256()
    known, answers = {name: set[str]() for name in (*HASHES, *PIXELS_OF, CELL)}, set[str]()
    for path in _parquet_files(folder):
        try:
            digest.update(str(path.relative_to(folder)).encode() + _digest(path).encode())
            for table in _rows(path):
                chosen = _selected(table, selection)
                items += len(table)
                if not (count := int(chosen.sum())):
                    continue
                selected += count
                examples.append(f"{path}: {count} rows")
                for column, values in known.items():
                    if column in table.column_names:
                        rows = table[column].filter(pa.array(chosen)).to_pylist()
                        values.update(str(value) for value in rows if value is not None)
                answers.update(filter(None, _answers(table.filter(pa.array(chosen)))))
        except FileNotFoundError:  # the service has deleted it after the retention time
            continue
    hashes, pixels = (frozenset().union(*(known[column] for column in columns)) for columns in (HASHES, PIXELS_OF))
    return Found(
        name, items, selected, hashes, frozenset(known[CELL]), pixels, frozenset(answers), tuple(examples),
        digest.hexdigest(),
    )  # fmt: skip


def _remove_rows(folder: Path, selection: Selection) -> None:
    with ExitStack() as stack:
        # A batch that is drawn meanwhile would have rows that are gone.
        for queue in sorted(folder.glob(f"*/{label_queue.FOLDER}")):
            stack.enter_context(label_queue.locked(queue))
        _thin_tables(folder, selection)


def _thin_tables(folder: Path, selection: Selection) -> None:
    for path in _parquet_files(folder):
        try:
            kept = np.concatenate([[], *(~_selected(table, selection) for table in _rows(path))]).astype(bool)
            if kept.all():
                continue
            if path.name == MANIFEST and (path.parent / PIXELS).exists():
                _remove_cells(path.parent, kept)
            else:
                _rewrite(path, path, kept)
        except FileNotFoundError:
            continue


def _rewrite(path: Path, target: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Replace a table by its rows that are `kept`; its time of change stays, after which it is deleted."""
    status, start = path.stat(), 0
    with replacing(target) as part:
        with pq.ParquetFile(path) as file, pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                writer.write_table(table.filter(pa.array(kept[start : start + len(table)])))
                start += len(table)
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove_cells(folder: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Replace the cells that `ingest` wrote by those that are `kept`: their pixels are in the order of the manifest."""
    pixels = np.load(folder / PIXELS, mmap_mode="r")
    rows = np.flatnonzero(kept)
    with fresh_folder(folder) as fresh:
        for path in folder.rglob("*"):
            if path.is_file() and path.name not in (MANIFEST, PIXELS):
                target = fresh / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        _rewrite(folder / MANIFEST, fresh / MANIFEST, kept)
        written = np.lib.format.open_memmap(fresh / PIXELS, "w+", pixels.dtype, (len(rows), *pixels.shape[1:]))
        for start in range(0, len(rows), _CELLS):
            written[start : start + _CELLS] = pixels[rows[start : start + _CELLS]]
        written.flush()
        del written


def _is_written_to(records: Path) -> bool:
    newest = 0.0
    for path in records.glob("*/*.parquet"):
        try:
            newest = max(newest, path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return time.time() - newest < _FRESH_S


# Corrections


def _is_corrected(line: corrections.Line, selection: Selection) -> bool:
    # The folder of a cell stands before its path.
    path = str(line.get("path") or "").partition("/")[2]
    return (
        line.get("sha256") in selection.hashes
        or line.get("group") in selection.samples
        or str(line.get("image_hash")) in selection.pixels
        or selection.has_answer(cell_of(str(line.get("cell") or "")))
        or any(line.get(name) in selection.requests for name in REQUESTS)
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


def _find_corrections(folder: Path, selection: Selection) -> Found:
    lines = list(corrections.read(folder))
    chosen = [line for line in lines if _is_corrected(line, selection)]
    images = [path for place in _orphans(folder, selection) for path in place.rglob("*") if path.is_file()]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    examples = [f"{folder / CORRECTIONS}: {len(chosen)} lines"] if chosen else []
    digest = hashlib.sha256("".join(f"{path.relative_to(folder)}{_digest(path)}" for path in files).encode())
    hashes = frozenset(str(line["sha256"]) for line in chosen if line.get("sha256"))
    pixels = frozenset(str(line["image_hash"]) for line in chosen if line.get("image_hash") is not None)
    kept = len([path for path in files if path.name not in (CORRECTIONS, LABELS)])
    return Found(
        "feedback", len(lines) + kept, len(chosen) + len(images), hashes, frozenset(), pixels,
        # Whoever sends a correction chooses the id: what others have answered to it is found by pixels alone.
        frozenset(), (*examples, *map(str, images)), digest.hexdigest(),
    )  # fmt: skip


def _remove_corrections(folder: Path, selection: Selection) -> None:
    corrections.thin(folder, keep=lambda line: not _is_corrected(line, selection))
    with corrections.locked(folder):
        corrections.remove_images(folder, {path.name for path in _orphans(folder, selection)})


# Images


def _choose(data: Path, selection: Selection, group_of: GroupOf) -> Iterator[tuple[str, str, bool]]:
    """Yield path, SHA-256 and whether it is selected, of each image in the data folder."""
    for path in list_files(data):
        digest = _digest(data / path)
        group = group_of(path) if selection.samples else None
        yield path, digest, selection.has_path(path) or digest in selection.hashes or group in selection.samples


def _find_images(data: Path, selection: Selection, group_of: GroupOf) -> Found:
    files = list(_choose(data, selection, group_of))
    chosen = {path: digest for path, digest, selected in files if selected}
    staying = [path for path, _, selected in files if not selected]
    examples, rows = [str(data / path) for path in chosen], 0
    for path in _sidecars(data):
        gone, _ = _labelled(data / path, path, chosen, staying, selection)
        rows += len(gone)
        examples += [f"{data / path}: {len(gone)} rows"] if gone else []
    named = [name for name in _named(_origin(data) or {}) if name in selection.samples]
    examples += [f"{data / ORIGIN}: {len(named)} names"] if named else []
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


def _remove_images(data: Path, selection: Selection, group_of: GroupOf) -> None:
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(selection: Selection) -> None:
    """Raise DataError where a selection is empty, or would select all there is."""
    if selection.is_empty():
        raise DataError("forget: say what, with --sample, --request, --path, --sha256 or --image")
    if any(not value.strip() for values in vars(selection).values() for value in values):
        # As of a variable of the shell that is not set: it would be all cells without a group.
        raise DataError("forget: an option is empty; give it what it is to delete, or leave it out")
    for pattern in selection.paths:
        if not set(pattern) - set("*?/."):
            raise DataError(f"forget: the pattern '{pattern}' is of every file; give one that is of the sample alone")
    for digest in selection.hashes:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise DataError(f"forget: '{digest}' is not a SHA-256 in hexadecimal; or give the image with --image")
