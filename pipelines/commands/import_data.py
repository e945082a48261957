"""Import a laboratory's export into the data folder, and show how `dataset.pattern` reads its paths.

All or nothing: the new data folder is built beside the old one, with links to the files there, and replaces it when it
is complete. Simulated cells are replaced, because they never mix with real ones; real cells are added to.
"""

import filecmp
import logging
import os
import shutil
from pathlib import Path

from tqdm import tqdm

from fatescope import plural
from fatescope.config import Dataset
from fatescope.data import archives, instruments, sidecar
from fatescope.data.export_folder import ORIGIN, list_files, read_labels
from fatescope.data.folders import replace_folder, scratch_folder
from fatescope.data.native.names import is_native
from fatescope.data.sidecar import LABELS, Labels
from fatescope.errors import DataError
from pipelines.ingestion.archive import unpack
from pipelines.ingestion.native_cells import copy_alone
from pipelines.ingestion.origin import is_simulated, read_origin, write_origin
from pipelines.ingestion.survey import MAX_REASONS, ExportSurvey, explain_no_cells, survey

log = logging.getLogger(__name__)


def import_export(dataset: Dataset, source: Path, target: Path, labels: Labels | None = None) -> ExportSurvey:
    """Import the export `source`, a folder or a zip, into the data folder `target`, and return the survey of it.

    `labels` are what a sheet says of its images; what sidecars say of them counts before.

    Raises DataError where the export holds no cells or simulated ones, is no safe zip, or would change a file in
    `target`, or where `target` is a link or a mount, which no other folder can take the place of.
    """
    _check_replaceable(target)
    _check_apart(source, target)
    with scratch_folder(target) as folder:
        files = _copy_or_unpack(source, folder)
        if labels:
            stated = sidecar.read_table(folder / LABELS) if (folder / LABELS).exists() else {}
            sidecar.write_table(folder / LABELS, {**labels, **stated})
        counts = survey(dataset, folder)
        if not counts.cells:
            refused = [(path, "", reason) for path, reason in counts.refused]
            raise DataError(explain_no_cells(dataset, source, counts.channels, counts.unmatched, refused))
        _refuse_simulated(source, folder)
        if is_simulated(target):
            log.warning("%s holds simulated cells; they are replaced, because real cells never mix with them", target)
            known, sources, groups, relabelled = 0, [], [], False
        else:
            known, sources = _link_known(target, folder), read_origin(target).get("sources", [])
            groups = _groups_in_order(dataset, target)
            relabelled = _merge_labels(target, folder)
        there = plural.count(known, "was", "were")
        log.info("%s; %s there already", plural.count(files - known, "new file"), there)
        if files > known or relabelled:
            sources = [*sources, {"name": Path(os.path.realpath(source)).name, "files": files - known}]
            groups = list(dict.fromkeys([*groups, *_groups(counts)]))
            write_origin(folder, {"origin": "adopted", "sources": sources, "groups": groups})
            replace_folder(folder, target)
    return counts


def _check_replaceable(target: Path) -> None:
    if target.is_symlink():
        raise DataError(
            f"{target}: is a link to {target.readlink()}, of which DVC makes no version; remove the link, and import "
            "what it leads to, or move that here"
        )
    if target.is_mount():
        raise DataError(f"{target}: is a mount, which cannot be replaced; mount it elsewhere, and import it from there")


def _check_apart(source: Path, target: Path) -> None:
    # Of a link to itself, Path.resolve would raise something else.
    one, other = (Path(os.path.realpath(path)) for path in (source, target))
    if one == other or one in other.parents or other in one.parents:
        raise DataError(f"{source}: is in {target}, or contains it; name a folder or zip elsewhere")


def _copy_or_unpack(source: Path, folder: Path) -> int:
    """Copy all that `source` holds into `folder`, and return the number of files."""
    if source.is_dir():
        return _copy(source, folder)
    if not (source.exists() or source.is_symlink()):
        raise DataError(f"{source}: not there; name the folder or zip of an export, or a .cif or .rif")
    if not source.is_file():
        raise DataError(f"{source}: neither a folder nor a zip; export to one of them")
    with source.open("rb") as file:
        packed = archives.is_zip(file)
    if packed:
        return unpack(source, folder)
    if is_native(source.name):
        return copy_alone(source, folder)
    if instrument := instruments.explain_file(source):
        raise DataError(f"{source}: {instrument}")
    raise DataError(f"{source}: neither a folder nor a zip; export to one of them")


def _copy(source: Path, folder: Path) -> int:
    left_out = list[str]()
    paths = list(list_files(source, lambda path, reason: left_out.append(f"{path}: {reason}")))
    if left_out:
        reasons = "\n  ".join(left_out[:MAX_REASONS])
        paths_are = plural.count(len(left_out), "path is", "paths are")
        log.warning("%s: %s left out, such as:\n  %s", source, paths_are, reasons)
    for path in tqdm(paths, desc="copy", unit="file", delay=1):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    if labels := read_labels(source):
        sidecar.write_table(folder / LABELS, labels)
    return len(paths)


def _refuse_simulated(source: Path, folder: Path) -> None:
    """Raise DataError where the export is, or contains, a data folder of simulated cells."""
    for place in (source, *(path.parent for path in folder.rglob(ORIGIN))):
        if is_simulated(place):
            raise DataError(f"{source}: holds simulated cells, which never mix with real ones; remove them")


def _link_known(target: Path, folder: Path) -> int:
    """Link the files of `target` into `folder`, and return how many of them the export has with the same content."""
    same, changed = 0, []
    for known in target.rglob("*"):
        if known.is_dir() or known == target / ORIGIN or known.name == LABELS:
            continue
        new = folder / known.relative_to(target)
        if new.exists():
            same += (alike := filecmp.cmp(known, new, shallow=False))
            changed += [] if alike else [new]
            continue
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            os.link(known, new)
        except (FileExistsError, NotADirectoryError):
            changed.append(new)
        except OSError:  # no links on this disk
            shutil.copyfile(known, new)
    if changed:
        files, are = plural.count(len(changed), "file"), plural.agree(len(changed), "is", "are")
        raise DataError(
            f"{files}, such as {min(changed).relative_to(folder)}, {are} in {target} already with other "
            "content; put the new export into a folder of another name, or remove the old files first"
        )
    return same


def _groups_in_order(dataset: Dataset, target: Path) -> list[str]:
    """Return the groups in `target` in the order of their import; those of no record by name, at the end."""
    if not target.is_dir():
        return []
    recorded = read_origin(target).get("groups", [])
    return list(dict.fromkeys([*recorded, *_groups(survey(dataset, target))]))


def _groups(counts: ExportSurvey) -> list[str]:
    """Return the groups of an export by name, as the stage split takes those that no record has."""
    return sorted({group for _, group in counts.cells})


def _merge_labels(target: Path, folder: Path) -> bool:
    """Write what the sidecars of `target` and of the export say into one in `folder`; return whether it says more.

    Where both name an image, the export counts: it is the later word.
    """
    known, new = read_labels(target), read_labels(folder)
    for path in folder.rglob(LABELS):
        path.unlink()
    if labels := known | new:
        sidecar.write_table(folder / LABELS, labels)
    return labels != known
