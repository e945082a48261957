"""Compare the samples of a batch job: `fatescope cultures OUT`.

A sample is a folder below the source, or a native file. Its roles are those that its name spells, or, where there is a
plate map, those that the map says. The comparison is that of the page and of /compare.
"""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.data import instruments, plate_map, roles
from fatescope.data.samples import assign_samples
from fatescope.errors import DataError
from fatescope.inference import bundle, uncertainty
from fatescope.inference.spec import Spec
from service.batch import job
from service.inference import comparison, quality
from service.inference.comparison import Choices, Compared, Roles

log = logging.getLogger(__name__)


def compare(out: Path, table: Path | None, reference: str | None) -> Compared:
    """Compare the samples in the folder `out` of a finished job, with the roles of the plate map `table`, if any.

    Raises DataError where there is no such job, no sample with a condition, or none with the condition `reference`.
    """
    if not (out / job.SUMMARY).exists():
        raise DataError(f"{out}: no finished job of `fatescope score` in it; name its OUT")
    spec = bundle.open_spec(out / job.MODEL)
    cells = _counted(pd.read_parquet(out / job.CELLS), spec)
    samples = {str(name): part for name, part in cells.groupby("sample")}
    given, unit = _assign(list(samples), table)
    conditions = {role.condition for role in given.values()}
    if not conditions:
        raise DataError(f"{out}: no sample has a condition; name folders after it, or write a plate map (--plate-map)")
    if reference is not None and reference not in conditions:
        raise DataError(
            f"--reference {reference}: no sample has this condition; there are {', '.join(sorted(conditions))}"
        )
    columns = [f"p_{name}" for name in spec.classes]
    probabilities = [samples[name][columns].to_numpy(np.float64) for name in given]
    return comparison.compare(
        list(given.values()),
        np.array([table_.mean(0) for table_ in probabilities]),
        [len(table_) for table_ in probabilities],
        [_compose(table_, spec) for table_ in probabilities],
        spec,
        out / job.MODEL,
        Choices(reference, unit),
    )


def _counted(cells: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Return the cells that count in a composition, with their `sample`."""
    counts = cells["verdict"] != uncertainty.UNLIKE
    if quality.excludes(spec, requested=None):
        counts &= cells["quality"].map(lambda reasons: reasons is None or not len(reasons))
    files = cells["file"].drop_duplicates().tolist()
    return cells[counts].assign(sample=cells["file"].map(sample_of(files)))


def sample_of(files: list[str]) -> dict[str, str]:
    """Return file → its sample."""
    # A native file holds a whole sample, an image file one cell of it.
    native = [file.lower().endswith(instruments.NATIVE) for file in files]
    folders = assign_samples([("", f"{file}/." if whole else file) for file, whole in zip(files, native, strict=True)])
    return dict(zip(files, folders, strict=True))


def _assign(samples: list[str], table: Path | None) -> tuple[dict[str, Roles], str]:
    """Return sample → roles, without the samples that have no condition, which the log names, and the unit of doses."""
    given = {sample: roles.read_roles(sample) for sample in samples}
    if table is not None:
        try:
            plate = plate_map.read(plate_map.parse(table.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{table}: not a plate map ({error}); save the sheet as CSV in UTF-8") from error
        for problem in plate.problems:
            log.warning("%s: %s", table, problem)
        given |= plate_map.match(plate.rows, samples)
    without = [sample or "files without a folder" for sample, role in given.items() if not role.condition]
    if without:
        log.warning("not compared, because no condition is given: %s", ", ".join(without))
    kept = {sample: role for sample, role in given.items() if role.condition}
    in_unit = roles.in_one_unit(list(kept.values()))
    compared = {
        sample: Roles(sample, role.condition, role.replicate, role.day, role.dose, role.donor)
        for sample, role in zip(kept, in_unit, strict=True)
    }
    return compared, next((role.unit for role in in_unit if role.dose is not None and role.unit), "")


def _compose(probabilities: npt.NDArray[np.floating], spec: Spec) -> npt.NDArray[np.floating]:
    return bundle.compose(probabilities, spec).shares
