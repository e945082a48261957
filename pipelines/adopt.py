"""Take a laboratory's export into the data folder, and say what `dataset.pattern` makes of its paths.

Everything or nothing: what is adopted is gathered beside the data folder and moved there when all of it is in order.
Simulated cells are replaced, because they never mix with real ones; real cells are added to.
"""

import filecmp
import json
import logging
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipelines.core import names
from pipelines.core.command import run
from pipelines.core.errors import DataError
from pipelines.core.params import Dataset, load

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
    reader, found = names.Reader(dataset), Found(Counter(), Counter(), Counter(), {})
    nearest = names.Nearest(dataset.pattern)
    for path in names.list_files(source):
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

    Raises DataError where the export holds no cell, is no safe zip, or would change a file that `target` has.
    """
    with _gathered(source, target) as (folder, size):
        found = survey(dataset, folder)
        if not found.cells:
            raise DataError(_nothing(dataset, source, found))
        origin = _origin(target)
        if origin.get("origin") == "simulated":
            log.warning("%s held simulated cells; they are replaced, because real cells never mix with them", target)
            shutil.rmtree(target)
            origin = {}
        _check_collisions(folder, target)
        sources = [*origin.get("sources", []), {"name": source.name, "files": size}]
        (folder / names.ORIGIN).write_text(json.dumps({"origin": "adopted", "sources": sources}, indent=2) + "\n")
        if target.exists():
            shutil.copytree(folder, target, dirs_exist_ok=True, copy_function=shutil.move)
        else:
            folder.rename(target)
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


@contextmanager
def _gathered(source: Path, target: Path) -> Iterator[tuple[Path, int]]:
    """Yield a folder beside `target` with a copy of all that `source` holds, and how many files; then remove it."""
    folder = target.with_name(target.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if source.is_dir():
            paths = list(names.list_files(source))
            for path in tqdm(paths, desc="copy", unit="file", delay=1):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / path, folder / path)
            size = len(paths)
        elif zipfile.is_zipfile(source):
            size = _unzip(source, folder)
        else:
            raise DataError(f"{source}: neither a folder nor a zip; export to one of them")
        folder.mkdir(exist_ok=True)
        yield folder, size
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unzip(source: Path, folder: Path) -> int:
    with zipfile.ZipFile(source) as archive:
        entries = [each for each in archive.infolist() if not each.is_dir() and not _is_hidden(each.filename)]
        for entry in entries:
            path = PurePosixPath(entry.filename.replace("\\", "/"))
            if (
                path.is_absolute()
                or ".." in path.parts
                or ":" in path.parts[0]
                or stat.S_ISLNK(entry.external_attr >> 16)
            ):
                raise DataError(f"{source}: the entry '{entry.filename}' leads out of the zip; do not use this file")
        expanded = sum(entry.file_size for entry in entries)
        if expanded > MAX_EXPANDED * max(source.stat().st_size, 1):
            raise DataError(f"{source}: would expand to {expanded:,} bytes; this is no export of images")
        for entry in tqdm(entries, desc="unzip", unit="file", delay=1):
            archive.extract(entry, folder)
    return len(entries)


def _is_hidden(path: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(path).parts)


def _origin(target: Path) -> dict[str, Any]:
    path = target / names.ORIGIN
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def _check_collisions(folder: Path, target: Path) -> None:
    changed = [
        path
        for path in names.list_files(folder)
        if (target / path).exists() and not filecmp.cmp(folder / path, target / path, shallow=False)
    ]
    if changed:
        raise DataError(
            f"{len(changed)} files, such as {changed[0]}, are in {target} already with other content; "
            "put the new export into a folder of another name, or remove the old files first"
        )


def main(params: Path, source: Path, target: Path) -> None:
    """Adopt the export SOURCE, a folder or a zip, into the data folder TARGET."""
    dataset = load(params).dataset
    log.info("%s", describe(dataset, adopt(dataset, source, target)))


if __name__ == "__main__":
    run(main)
