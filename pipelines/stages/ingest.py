"""Read every exported image once: from files to one table and one memory-mapped array.

Only files of the input channel are opened. What cannot be used goes to the quarantine with its reason, as do files
whose name says nothing (code `name`), which do not count as refused cells.
"""

import hashlib
import json
import logging
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import compress, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from tqdm import tqdm

from fatescope.command import OutFolder, ParamsFile, run
from fatescope.config import Dataset, Ingest, load
from fatescope.data import features, images
from fatescope.data.batches import batched
from fatescope.data.dataset import (
    MANIFEST,
    PIXELS,
    QUARANTINE,
    SUMMARY,
    PixelWriter,
    TableWriter,
    read_quarantine,
)
from fatescope.data.folders import fresh_folder
from fatescope.data.paths import ORIGIN, PathParser, list_files
from fatescope.errors import DataError, ImageError

log = logging.getLogger(__name__)

CHUNK = 128
"""Files that one process reads at a time: enough to hide the cost of passing them, few enough to bound memory."""
_QUARANTINE = pa.schema([("path", pa.string()), ("code", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Summary:
    """What happened to the files; `summary.json`."""

    origin: dict[str, object]
    """The content of `data/origin.json`; empty where nobody wrote one."""
    files: int
    """Files below the data folder."""
    unmatched: int
    """Files whose path `dataset.pattern` does not match."""
    other_channels: int
    """Files of channels that the model does not see."""
    left_out: int
    """Files that were left out because `ingest.share` is below 1."""
    refused: dict[str, int]
    """Files refused, by code of `ImageError`."""
    cells: int
    """Cells in the table."""
    labels: dict[str, int]
    """Cells by class."""
    groups: int
    """Acquisition groups."""
    duplicates: int
    """Cells whose pixels are those of an earlier cell, to the bit."""
    duplicates_across_groups: int
    """Those whose earlier cell is of another group: a leak into a grouped split."""
    data_hash: str
    """SHA-256 over the path and hash of every cell: the version of the data."""


@dataclass(frozen=True)
class Chunk:
    """What one process made of one list of files."""

    columns: dict[str, list[object]]
    pixels: npt.NDArray[np.uint16]
    refused: list[tuple[str, str, str]]
    files: int


def ingest(dataset: Dataset, params: Ingest, source: Path, target: Path) -> Summary:
    """Write the cells below `source` to `target`, in the order of their paths.

    Raises DataError where no file is a cell, or more than `params.max_refused_share` of them are refused; the
    quarantine then stays in `TARGET.part`.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; put an export there with `make adopt SRC=folder-or-zip`")
    with fresh_folder(target, keep_failed=True) as folder:
        with TableWriter(folder / QUARANTINE, _QUARANTINE) as quarantine:
            counts, strata = _survey(dataset, source, quarantine)
            kept = _draw(strata, params)
            counts["files read"], counts["left_out"] = int(kept.sum()), int((~kept).sum())
            summary = _stream(dataset, params, source, folder, kept, counts, quarantine)
        _check_refused(summary, counts["files read"], params.max_refused_share, folder / QUARANTINE)
        (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return summary


def _survey(dataset: Dataset, source: Path, quarantine: TableWriter) -> tuple[Counter[str], "array[int]"]:
    """Count files by what their paths say, and return the stratum (class and group) of each of the input channel.

    The paths themselves are not kept: those of a million files would be most of the memory that ingest takes.
    """
    reader, strata, numbers = PathParser(dataset), array("l"), dict[tuple[str, str], int]()
    counts, channels, unmatched = Counter[str](), Counter[str](), list[str]()
    for path in list_files(source):
        counts["files"] += 1
        name = reader.read(path)
        if name is None:
            unmatched.append(path)
        elif reader.is_input(name):
            strata.append(numbers.setdefault((name.label, name.group), len(numbers)))
        else:
            channels[name.facts["channel"]] += 1
    counts["unmatched"], counts["other_channels"] = len(unmatched), channels.total()
    if not strata:
        raise DataError(_nothing(dataset, source, unmatched, channels))
    reason = "dataset.pattern does not match this path"
    quarantine.append({"path": unmatched, "code": ["name"] * len(unmatched), "reason": [reason] * len(unmatched)})
    return counts, strata


def _nothing(dataset: Dataset, source: Path, unmatched: list[str], channels: Counter[str]) -> str:
    if channels:
        return (
            f"{source}: no file has channel '{dataset.input_channel}', but there are {dict(channels)}; "
            "set dataset.input_channel to the brightfield channel"
        )
    if unmatched:
        return (
            f"dataset.pattern matches none of the {len(unmatched)} files below {source}, such as '{unmatched[0]}'; "
            f"change dataset.pattern, now {dataset.pattern}"
        )
    return f"{source}: the folder holds no files; put an export there with `make adopt SRC=folder-or-zip`"


def _draw(strata: "array[int]", params: Ingest) -> npt.NDArray[np.bool_]:
    """Return which files are kept: `params.share` of each stratum, at least one."""
    kept = np.ones(len(strata), bool)
    if params.share < 1:
        rng, number = np.random.default_rng(params.seed), np.frombuffer(strata, np.dtype("l"))
        for each in np.unique(number):
            rows = np.flatnonzero(number == each)
            left_out = len(rows) - max(1, round(params.share * len(rows)))
            kept[rng.choice(rows, left_out, replace=False)] = False
    return kept


def _paths(dataset: Dataset, source: Path, kept: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Yield the paths of the input channel that are `kept`, in the order in which `_survey` met them."""
    reader = PathParser(dataset)
    matched = (path for path in list_files(source) if (name := reader.read(path)) and reader.is_input(name))
    return compress(matched, kept)


def _stream(
    dataset: Dataset,
    params: Ingest,
    source: Path,
    folder: Path,
    kept: npt.NDArray[np.bool_],
    counts: Counter[str],
    quarantine: TableWriter,
) -> Summary:
    labels, groups, refused = Counter[str](), set[str](), Counter[str]()
    version, seen = hashlib.sha256(), array("q")
    job = _Job(dataset, params.canvas, int(params.max_megapixels * 1e6), source)
    with (
        TableWriter(folder / MANIFEST) as manifest,
        PixelWriter(folder / PIXELS, params.canvas) as pixels,
        tqdm(total=counts["files read"], desc="ingest", unit="file", delay=1) as bar,
    ):
        for chunk in _in_order(job.read, batched(_paths(dataset, source, kept), CHUNK), params.workers):
            if len(chunk.pixels):
                manifest.append(dict(chunk.columns))
                pixels.append(chunk.pixels)
            if chunk.refused:
                quarantine.append(
                    dict(zip(_QUARANTINE.names, map(list, zip(*chunk.refused, strict=True)), strict=True))
                )
            labels.update(map(str, chunk.columns["label"]))
            groups.update(map(str, chunk.columns["group"]))
            refused.update(code for _, code, _ in chunk.refused)
            seen.extend(chunk.columns["pixel_hash"])  # type: ignore[arg-type]  # of numbers
            version.update("".join(f"{c}\0{h}\n" for c, h in _identities(chunk)).encode())
            bar.update(chunk.files)
    duplicates, across = _duplicates(folder, seen)
    return Summary(
        origin=_origin(source),
        files=counts["files"],
        unmatched=counts["unmatched"],
        other_channels=counts["other_channels"],
        left_out=counts["left_out"],
        refused=dict(refused),
        cells=len(seen),
        labels=dict(sorted(labels.items())),
        groups=len(groups),
        duplicates=duplicates,
        duplicates_across_groups=across,
        data_hash=version.hexdigest(),
    )


def _identities(chunk: Chunk) -> Iterable[tuple[object, object]]:
    return zip(chunk.columns["cell_id"], chunk.columns["sha256"], strict=True)


def _origin(source: Path) -> dict[str, object]:
    path = source / ORIGIN
    if not path.exists():
        return {}
    content: dict[str, object] = json.loads(path.read_text())
    return content


def _duplicates(folder: Path, seen: "array[int]") -> tuple[int, int]:
    """Count cells whose pixels came before, and those that came before in another group."""
    hashes = np.frombuffer(seen, np.int64)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered  # eight bytes a cell, as each array here
    if not len(repeated):
        return 0, 0
    place = np.searchsorted(repeated[:-1], hashes)
    rows = np.flatnonzero(repeated[place] == hashes)
    del place
    _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
    later = np.flatnonzero(first[inverse] != np.arange(len(rows)))
    # As numbers, because a million names of groups would take far more.
    table = pq.read_table(folder / MANIFEST, columns=["group"], read_dictionary=["group"])
    groups = table.column("group").unify_dictionaries().combine_chunks().indices.to_numpy()
    return len(later), int((groups[rows[later]] != groups[rows[first[inverse[later]]]]).sum())


def _check_refused(summary: Summary, files: int, limit: float, quarantine: Path) -> None:
    refused = sum(summary.refused.values())
    for code, count in summary.refused.items():
        log.warning("%s: refused %d of %d files: %s", quarantine.name, count, files, code)
    if refused > limit * files or not summary.cells:
        examples = read_quarantine(quarantine, summary.refused)
        raise DataError(
            f"{refused} of {files} files were refused ({refused / files:.1%}), more than ingest.max_refused_share "
            f"({limit:.1%}); mend or remove them, or raise the share. All are in {quarantine}; for example:\n"
            + "\n".join(f"  {line}" for line in examples)
        )


def _in_order(work: Callable[[list[str]], Chunk], jobs: Iterator[list[str]], workers: int) -> Iterator[Chunk]:
    """Run `work` on each job in `workers` processes; hold no more than a few results, so that memory stays flat."""
    if workers == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        waiting: deque[Future[Chunk]] = deque(pool.submit(work, job) for job in islice(jobs, 2 * workers))
        while waiting:
            chunk = waiting.popleft().result()
            waiting.extend(pool.submit(work, job) for job in islice(jobs, 1))
            yield chunk


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to read files."""

    dataset: Dataset
    canvas: tuple[int, int]
    max_pixels: int
    source: Path

    def read(self, paths: list[str]) -> Chunk:
        """Decode the files at `paths` and describe each cell in them."""
        reader, crops, placed, refused = PathParser(self.dataset), [], [], []
        rows: list[dict[str, object]] = []
        for path in paths:
            try:
                raw = (self.source / path).read_bytes()
                pages = images.decode(raw, path, self.max_pixels)
                on_canvas = [images.center(pixels, self.canvas, path) for _, pixels in pages]
            except ImageError as error:
                refused.append((path, error.code, str(error)))
                continue
            name, sha256 = reader.read(path), hashlib.sha256(raw).hexdigest()
            assert name is not None
            for page, (header, pixels) in enumerate(pages):
                rows.append(
                    {
                        **name.facts,
                        "cell_id": f"{path}#{page}" if len(pages) > 1 else path,
                        "label": name.label,
                        "group": name.group,
                        "path": path,
                        "sha256": sha256,
                        "page": page,
                        "height": header.height,
                        "width": header.width,
                        "bit_depth": header.bit_depth,
                        "pixel_hash": _pixel_hash(pixels),
                    }
                )
                crops.append(pixels)
            placed.extend(on_canvas)
        columns: dict[str, list[object]] = {key: [row[key] for row in rows] for key in (rows[0] if rows else _EMPTY)}
        columns |= _figures(crops, rows)
        return Chunk(
            columns,
            np.stack(placed) if placed else np.empty((0, *self.canvas), np.uint16),
            refused,
            len(paths),
        )


_EMPTY = ("cell_id", "label", "group", "sha256", "pixel_hash")


def _pixel_hash(pixels: images.Pixels) -> int:
    """Return 64 bits that are equal for equal pixels, whatever the file around them says."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8, key=str(pixels.shape).encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _figures(crops: list[images.Pixels], rows: list[dict[str, object]]) -> dict[str, list[object]]:
    """Return the columns of `features.acquisition`, computed for all crops of one shape and depth at once."""
    table = np.empty((len(crops), len(features.ACQUISITION)), np.float32)
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, (crop, row) in enumerate(zip(crops, rows, strict=True)):
        alike.setdefault((crop.shape, crop.dtype, row["bit_depth"]), []).append(i)
    for (_, _, bit_depth), indices in alike.items():
        table[indices] = features.acquisition(np.stack([crops[i] for i in indices]), int(str(bit_depth)))
    return {name: list(table[:, i]) for i, name in enumerate(features.ACQUISITION)}


def main(
    params: ParamsFile,
    source: Annotated[Path, typer.Option("--data", help="Folder of exported cells.")],
    target: OutFolder,
) -> None:
    """Read every exported cell once, into one table and one array."""
    settings = load(params)
    summary = ingest(settings.dataset, settings.ingest, source, target)
    log.info("%d cells in %d groups: %s", summary.cells, summary.groups, summary.labels)
    if summary.unmatched:
        log.warning("%d files match nothing; see %s", summary.unmatched, target / QUARANTINE)
    if summary.duplicates:
        log.warning("%d duplicates, %d across groups", summary.duplicates, summary.duplicates_across_groups)


if __name__ == "__main__":
    run(main)
