"""Register a bundle whose head was taught: unsigned, without an alias, and without a verdict of the gate.

It is served only once somebody who may has signed it (`fatescope models sign`) and made it the champion by name and
with a reason (`fatescope models promote`): the gate has not compared it.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fatescope.data.archives import DAMAGE
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import model_name
from fatescope.signing.signature import SIGNATURE
from fatescope.teaching.taught_bundle import check_task
from pipelines.registry import log_version, tracking, versions
from pipelines.registry.records import cut

RUN = "taught"
"""How the run of such a version is called, and its scheme."""
MAX_BYTES = 4_000_000_000
"""Largest bundle that is unpacked."""


def add(path: Path) -> tuple[str, str]:
    """Register the bundle at `path`, a folder or a zip as the service gives it; return its task and number.

    Raises DataError for one that is registered already, whose task is no name, or that was not taught: those come from
    `register`, which asks the gate; and BundleError for one that is damaged, has a signature or does not reproduce its
    test tensors here.
    """
    with _unpacked(path) as folder:
        spec = bundle.open_spec(folder)
        if spec.taught is None:
            raise DataError(f"{path}: was not taught but trained; register it with `fatescope repro register`")
        # It is part of names in the registry, and whoever sent the bundle wrote it.
        check_task(spec.task)
        if (folder / SIGNATURE).exists():
            raise BundleError(f"{path}: has a signature, but nobody has signed it yet; download it again")
        bundle.load(folder, threads=1).check()
        digest = hashlib.sha256((folder / bundle.SPEC).read_bytes()).hexdigest()
        if (known := versions.find_by_bundle(spec.task, digest)) is not None:
            raise DataError(f"{path}: is registered already, as version {known.version} of {model_name(spec.task)}")
        with tracking.resumed(spec.task, RUN):
            number = log_version.log_unsigned(folder, spec)
        versions.set_tags(spec.task, number, _tags(spec) | {"bundle": digest})
    return spec.task, number


def _tags(spec: Spec) -> dict[str, str]:
    taught = spec.taught
    assert taught is not None
    ends = {} if taught.interval is None else dict(zip(("low", "high"), taught.interval, strict=True))
    return {
        "data_hash": spec.data_hash,
        "git_commit": spec.git_commit,
        "split": RUN,
        "confounded": cut(", ".join(spec.confounded), versions.MAX_TAG),
        "taught": cut(taught.model_dump_json(), versions.MAX_TAG),
        "balanced_accuracy": f"{taught.balanced_accuracy:.4f}",
    } | {f"balanced_accuracy.{end}": f"{value:.4f}" for end, value in ends.items()}


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder of a bundle; raises BundleError for what is neither one nor a zip of one."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fatescope-") as place:
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                    raise BundleError(f"{path}: announces more than {MAX_BYTES:,} bytes; download the bundle again")
                archive.extractall(place)
        except DAMAGE as error:
            raise BundleError(f"{path}: neither the folder of a bundle nor a zip of one ({error})") from error
        specs = sorted(Path(place).glob(f"**/{bundle.SPEC}"))
        if len(specs) != 1:
            raise BundleError(
                f"{path}: {len(specs)} bundles in it, where one was expected; give the zip that `Download bundle` on "
                "the page has saved"
            )
        yield specs[0].parent
