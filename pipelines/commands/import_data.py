"""Take a laboratory's export into the data folder, and say what `dataset.pattern` makes of its paths.

Everything or nothing: the new data folder is made beside the old one, to which it links, and takes its place when all
of it is in order. Simulated cells are replaced, because they never mix with real ones; real cells are added to.
"""

import filecmp
import json
import logging
import os
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

import pandas as pd
import typer
from tqdm import tqdm

from fatescope.command import OutFolder, ParamsFile, run
from fatescope.config import Dataset, load
from fatescope.data.folders import replace_folder, scratch_folder
from fatescope.data.paths import ORIGIN, PathParser, PatternDiagnostics, is_hidden, list_files
from fatescope.errors import DataError

log = logging.getLogger(__name__)

MAX_GROUPS = 30
"""Rows of the table of cells by class and group that are printed."""
MAX_EXPANDED = 200
"""A zip whose content is this many times its size is no export of images."""


@dataclass(frozen=True)
class Found:
    """What the paths of an export say."""

    cells: Counter[tuple[str, str]]
    """(class, group) → files of the input channel."""
    channels: Counter[str]
    """Channel → files; empty where paths name none."""
    unlisted: Counter[str]
    """Label values that `dataset.classes` does not list → files of the input channel."""
    unmatched: dict[str, list[str]]
    """The nearest reason → the paths that it keeps from matching."""


def survey(dataset: Dataset, source: Path) -> Found:
    """Read the paths of all files below `source`; no file is opened."""
    reader, found = PathParser(dataset), Found(Counter(), Counter(), Counter(), {})
    nearest = PatternDiagnostics(dataset.pattern)
    for path in list_files(source):
        name = reader.read(path)
        if name is None:
            found.unmatched.setdefault(nearest.reason(path), []).append(path)
            continue
        if "channel" in name.facts:
            found.channels[name.facts["channel"]] += 1
        if reader.is_input(name):
            found.cells[name.label, name.group] += 1
            if name.facts[dataset.label] not in dataset.classes:
                found.unlisted[name.label] += 1
    return found


def adopt(dataset: Dataset, source: Path, target: Path) -> Found:
    """Bring the export `source`, a folder or a zip, under the data folder `target`, and return what it says.

    Raises DataError where the export holds no cell or simulated ones, is no safe zip, or would change a file that
    `target` has.
    """
    _check_apart(source, target)
    with scratch_folder(target) as folder:
        size = _copy_or_unzip(source, folder)
        found = survey(dataset, folder)
        if not found.cells:
            raise DataError(_nothing(dataset, source, found))
        _refuse_simulated(source, folder)
        origin = _origin(target)
        if origin.get("origin") == "simulated":
            log.warning("%s holds simulated cells; they are replaced, because real cells never mix with them", target)
            known, sources = 0, []
        else:
            known, sources = _link_known(target, folder), origin.get("sources", [])
        log.info("%d files are new, %d were there already", size - known, known)
        if size > known:
            sources = [*sources, {"name": source.resolve().name, "files": size - known}]
            content = json.dumps({"origin": "adopted", "sources": sources}, indent=2)
            (folder / ORIGIN).write_text(content + "\n")
            replace_folder(folder, target)
    return found


def describe(dataset: Dataset, found: Found) -> str:
    """Return what was found, for people."""
    cells = pd.Series(found.cells).rename_axis(["class", "group"]).rename("cells").sort_index()
    by_class = cells.groupby("class").agg(["sum", "size"]).set_axis(["cells", "groups"], axis=1)
    lines = [f"{cells.sum():,} cells in {cells.index.unique('group').size:,} groups", "", by_class.to_string()]
    lines += ["", cells.head(MAX_GROUPS).reset_index().to_string(index=False)]
    if len(cells) > MAX_GROUPS:
        lines.append(f"… and {len(cells) - MAX_GROUPS:,} more")
    if found.channels:
        files = ", ".join(f"{channel}: {count:,}" for channel, count in sorted(found.channels.items()))
        lines += ["", f"files by channel: {files}; the model sees {dataset.input_channel}"]
    if found.unlisted:
        listed = ", ".join(f"{label} ({count:,})" for label, count in found.unlisted.most_common())
        lines += ["", f"dataset.classes does not list {listed}; add them, or validation will stop the line"]
    return "\n".join([*lines, *_tell_unmatched(found)])


def _tell_unmatched(found: Found) -> list[str]:
    if not found.unmatched:
        return []
    lines = ["", f"{sum(map(len, found.unmatched.values())):,} files match nothing:"]
    for reason, paths in sorted(found.unmatched.items(), key=lambda each: -len(each[1]))[:10]:
        lines.append(f"  {len(paths):,} such as {paths[0]}: {reason}")
    if len(found.unmatched) > 10:
        lines.append(f"  … and {len(found.unmatched) - 10:,} more reasons")
    return lines


def _nothing(dataset: Dataset, source: Path, found: Found) -> str:
    if found.channels:
        return (
            f"{source}: no file has channel '{dataset.input_channel}', but there are {dict(found.channels)}; "
            "set dataset.input_channel to the brightfield channel"
        )
    if found.unmatched:
        told = "\n".join(_tell_unmatched(found)[1:])
        return f"{source}: dataset.pattern, now {dataset.pattern}, matches no path; change it.\n{told}"
    return f"{source}: holds no files"


def _check_apart(source: Path, target: Path) -> None:
    one, other = source.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise DataError(f"{source}: lies in {target} or around it; adopt a folder or zip from elsewhere")


def _copy_or_unzip(source: Path, folder: Path) -> int:
    """Copy all that `source` holds into `folder`, and return the number of files."""
    if source.is_dir():
        return _copy(source, folder)
    if zipfile.is_zipfile(source):
        return _unzip(source, folder)
    raise DataError(f"{source}: neither a folder nor a zip; export to one of them")


def _copy(source: Path, folder: Path) -> int:
    paths = [path for path in list_files(source) if not is_hidden(path)]
    for path in tqdm(paths, desc="copy", unit="file", delay=1):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    return len(paths)


def _unzip(source: Path, folder: Path) -> int:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _entries(source, archive)
            for path, entry in tqdm(entries.items(), desc="unzip", unit="file", delay=1):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as content, (folder / path).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{source}: cannot be unpacked ({error}); export or copy it again, unencrypted") from error
    return len(entries) - (ORIGIN in entries)


def _entries(source: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return path → entry of the files in a zip, none of which leads out of it."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        # Some programs for Windows write backslashes.
        spelled = entry.filename.replace("\\", "/")
        path = PurePosixPath(spelled)
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(spelled).drive
        if outside or stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"{source}: the entry '{entry.filename}' leads out of the zip; do not use this file")
        if spelled.endswith("/") or is_hidden(str(path)):
            continue
        if str(path) in entries:
            raise DataError(f"{source}: holds '{path}' twice; export it again")
        entries[str(path)] = entry
    expanded, packed = sum(entry.file_size for entry in entries.values()), source.stat().st_size
    if expanded > MAX_EXPANDED * packed:
        raise DataError(f"{source}: would expand to {expanded:,} bytes; this is no export of images")
    return entries


def _refuse_simulated(source: Path, folder: Path) -> None:
    """Raise DataError where the export is, or contains, a data folder that says it was drawn."""
    for place in (source, *(path.parent for path in folder.rglob(ORIGIN))):
        if _origin(place).get("origin") == "simulated":
            raise DataError(f"{source}: holds simulated cells, which never mix with real ones; leave them out")


def _origin(target: Path) -> dict[str, Any]:
    path = target / ORIGIN
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def _link_known(target: Path, folder: Path) -> int:
    """Link what `target` holds into `folder`, and return how many of its files are there already, to the byte."""
    same, changed = 0, []
    for known in target.rglob("*"):
        if known.is_dir() or known == target / ORIGIN:
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
        raise DataError(
            f"{len(changed)} files, such as {min(changed).relative_to(folder)}, are in {target} already with other "
            "content; put the new export into a folder of another name, or remove the old files first"
        )
    return same


def main(
    params: ParamsFile,
    source: Annotated[Path, typer.Option("--source", help="Folder or zip of exported cells.")],
    target: OutFolder,
) -> None:
    """Import an export into the data folder, and show how dataset.pattern reads its paths."""
    dataset = load(params).dataset
    log.info("%s", describe(dataset, adopt(dataset, source, target)))


if __name__ == "__main__":
    run(main)
