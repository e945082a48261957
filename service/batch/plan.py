"""What a batch job is to do: which files, in how many parts, by which model; and what has changed since."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data import archives, instruments
from fatescope.data.export_folder import list_files
from fatescope.data.native.names import is_native
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError, ImageError
from fatescope.inference import bundle
from service.batch import listing, pieces, tables
from service.batch.job import (
    CELLS,
    FILES,
    MODEL,
    PLAN,
    REFUSED,
    SUMMARY,
    VANISHED,
    part_path,
    write_refused,
)
from service.batch.listing import Changes
from service.batch.lock import LOCK
from service.inference.decoding import CellDecoder
from service.registry import model_store
from service.registry.model_store import Champion

PART_FILES = 2_000
"""Files, or objects of a native file, per part: seconds of work, so that little is lost with a machine, and a million
cells are 500 parts."""


@dataclass(frozen=True)
class Plan:
    """The work to do; `plan.json`."""

    source: str
    task: str
    model: str
    """Name of the registered model."""
    version: str
    digest: str
    """Digest of its bundle; see `model_store.digest`."""
    files: int
    parts: int
    quality: bool = True
    """Whether the quality of cells is measured, as was always done in jobs whose plan does not say."""


def load_plan(out: Path) -> Plan:
    """Return the plan in `out`."""
    stored = json.loads((out / PLAN).read_text(encoding="utf-8"))
    # An earlier version did not write the task.
    return Plan(**{"task": stored.get("task") or bundle.open_spec(out / MODEL).task, **stored})


def source_of(out: Path) -> Path:
    """Return the folder that the files of a job are below."""
    return listing.folder_of(Path(load_plan(out).source))


def read_plan(
    source: Path, out: Path, model: Path | None, task: str = "", *, quality: bool | None = None
) -> Plan | None:
    """Return the plan in `out`, or None if there is none: a job continues with the model that it started with.

    Raises DataError if it is for another source or `task`, for another model than the bundle folder `model`, or if it
    measures the quality of cells and `quality` says otherwise, or the other way round.
    """
    if not (out / PLAN).exists():
        return None
    plan = load_plan(out)
    started = f"{out}: started with {plan.model} version {plan.version} on {plan.source}"
    other_model = model is not None and model_store.digest(model) != plan.digest
    if plan.source != str(source.resolve()) or other_model:
        raise DataError(f"{started}; name another folder, or remove this one")
    if task not in ("", plan.task):
        raise DataError(f"{started}, which is task '{plan.task}'; name another folder for task '{task}'")
    if quality not in (None, plan.quality):
        done = "with" if plan.quality else "without"
        raise DataError(f"{started}, {done} the quality of cells; name another folder for it to be otherwise")
    return plan


def check_champion(out: Path, plan: Plan, champion: Champion) -> None:
    """Raise DataError if `champion` is another model than that of the finished job in `out`."""
    if model_store.digest(champion.path) != plan.digest:
        raise DataError(
            f"{out}: its cells were classified with {plan.model} version {plan.version}, but the champion is version "
            f"{champion.version}; name another folder for that, or add `--model {out / MODEL}` to go on with the former"
        )


def check_folders(source: Path, out: Path) -> None:
    """Raise DataError if there is no folder `source`, or native file, or `out` is not one for results."""
    if source.is_file() and is_native(source.name):
        _check_native(source)
    elif not source.is_dir():
        if instrument := instruments.explain_file(source):
            raise DataError(f"{source}: {instrument}")
        raise DataError(f"{source}: {_not_a_source(source)}")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: below {source}, where it would be read as images; name a folder outside")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; name a folder for the results")
    if out.exists() and any(path.name != LOCK for path in out.iterdir()) and not (out / MODEL).is_dir():
        raise DataError(f"{out}: not empty, and not made by this command; name another folder")


def _not_a_source(source: Path) -> str:
    """Return what is wrong with a path that is neither a folder nor a native file, and what to do."""
    if not source.exists():
        return "not there; name a folder of images, or a .cif or .rif"
    if source.suffix.lower() == archives.SUFFIX:
        return "an archive; unpack it, and name the folder"
    return "neither a folder nor a .cif or .rif; name the folder that the images are in"


def _check_native(source: Path) -> None:
    try:
        with source.open("rb") as raw:
            NativeFile(raw, str(source))
    except (ImageError, OSError) as error:
        raise DataError(str(error)) from error


def create_plan(source: Path, out: Path, champion: Champion, *, quality: bool = True) -> Plan:
    """List the images below `source` for `champion` in the folder `out`; `quality`: whether that of cells is measured.

    Raises DataError if there are no images, or if `out` is not suitable.
    """
    check_folders(source, out)
    if any(out.joinpath(CELLS).glob("[!.]*.parquet")):
        raise DataError(f"{out}: results without a {PLAN} that says what of; name another folder, or remove this one")
    for name in (CELLS, REFUSED):
        (out / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(champion.path, out / MODEL, dirs_exist_ok=True)
    listing.write(out / FILES, listing.look(source, _decoder(out), PART_FILES), PART_FILES)
    files, parts = listing.count(out / FILES)
    if not files:
        raise _no_files(source, out)
    digest = model_store.digest(out / MODEL)
    plan = Plan(str(source.resolve()), champion.task, champion.name, champion.version, digest, files, parts, quality)
    # Last, because a job without a plan starts anew.
    tables.write_json(asdict(plan), out / PLAN)
    return plan


def update_plan(out: Path, plan: Plan) -> tuple[Plan, Changes]:
    """List the source again and plan what has changed in it; return the new plan and the changes.

    Raises DataError if the source has no images any more.
    """
    source = Path(plan.source)
    listing.upgrade(out / FILES, source, (out / PLAN).stat().st_mtime_ns)
    changes = listing.compare(out / FILES, listing.look(source, _decoder(out), PART_FILES))
    if not changes.present:
        raise _no_files(source, out)
    if changes.new or changes.changed or changes.outdated:
        (out / SUMMARY).unlink(missing_ok=True)
        # Before the listing, by which a run that is killed here finds them changed again.
        for outdated in (changes.changed, changes.outdated):
            for part, files in outdated.items():
                _take_out(out, part, [pieces.file_of(entry.file) for entry in files])
        listing.update(out / FILES, changes, PART_FILES)
    _write_vanished(out, changes.vanished)
    # From the listing, which a run that was killed may have left newer than the plan.
    count, parts = listing.count(out / FILES)
    current = replace(plan, files=count, parts=parts)
    tables.write_json(asdict(current), out / PLAN)
    return current, changes


def _take_out(out: Path, part: int, files: list[str]) -> None:
    """Remove the rows of `files` from the results of a part, where it has any."""
    if (path := part_path(out, REFUSED, part)).exists():
        write_refused(listing.without(pq.read_table(path), files), out, part)
    if (path := part_path(out, CELLS, part)).exists():
        tables.write(listing.without(pq.read_table(path), files), path)


def _write_vanished(out: Path, files: list[str]) -> None:
    if files:
        tables.write(pa.table({"file": pa.array(files, pa.string())}), out / VANISHED)
    else:
        (out / VANISHED).unlink(missing_ok=True)


def _decoder(out: Path) -> CellDecoder:
    return CellDecoder(bundle.open_spec(out / MODEL))


def _no_files(source: Path, out: Path) -> DataError:
    if next(list_files(source), None) is None:
        return DataError(f"{source}: no file in it; name the folder that the images are in")
    channels = " or ".join(bundle.open_spec(out / MODEL).inputs)
    return DataError(
        f"{source}: no file of channel {channels}, which the model takes; export the cells in that channel, or use a "
        "model of another one"
    )
