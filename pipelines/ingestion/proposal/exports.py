"""An export before it is imported: the paths that its files will have, and those of them that are looked into."""

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from fatescope.data import archives
from fatescope.data.archives import Member
from fatescope.data.export_folder import is_record, list_files
from fatescope.data.native.analysis import SUFFIX
from fatescope.data.native.names import is_native
from fatescope.data.sidecar import LABELS
from fatescope.errors import DataError
from pipelines.ingestion.proposal.layout import is_image


@dataclass(frozen=True)
class Export:
    """The files of an export, by the paths that they will have below the data folder."""

    name: str
    folder: Path
    """Where the files are; of a zip, where those are that were asked for."""
    paths: list[str]
    sidecars: list[str]
    """Paths of `fatescope_labels.csv`."""
    packed: dict[str, Member] = field(default_factory=dict, repr=False)
    """Path → entry of the zip that is not unpacked yet."""
    archive: zipfile.ZipFile | None = field(default=None, repr=False)

    @property
    def images(self) -> list[str]:
        """Return the paths of images."""
        return [path for path in self.paths if is_image(path)]

    @property
    def natives(self) -> list[str]:
        """Return the paths of native files of instruments."""
        return [path for path in self.paths if is_native(path)]

    def fetch(self, paths: Iterable[str]) -> None:
        """Make sure that files are in `folder`; raises DataError where a zip is damaged."""
        for path in paths:
            member = self.packed.pop(path, None)
            if member is None or self.archive is None or member.problem:
                continue
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.archive.open(member.entry) as content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
            except archives.DAMAGE as error:
                raise DataError(f"{self.name}: cannot be unpacked ({error}); export or copy it again") from error

    def fetch_natives(self) -> None:
        """Make sure that native and analysis files are in `folder`, which are read whole."""
        self.fetch(path for path in self.paths if is_native(path) or path.lower().endswith(SUFFIX))


@contextmanager
def open_export(source: Path) -> Iterator[Export | None]:
    """Yield the export `source`, a folder, a zip or a native file; None for what an import refuses.

    What is unpacked of a zip is gone afterwards.
    """
    if source.is_dir():
        yield _of(source, source, list(list_files(source, lambda *_: None)))
        return
    if is_native(source.name) and source.is_file():
        beside = [path.name for path in sorted(source.parent.iterdir()) if _is_analysis_of(path, source)]
        yield Export(source.name, source.parent, [source.name, *beside], [])
        return
    try:
        archive = archives.open_zip(source)
    except archives.DAMAGE:
        yield None
        return
    with archive, TemporaryDirectory() as folder:
        members = {member.path: member for member in archives.list_members(archive)}
        paths = sorted(path for path in members if not is_record(path))
        sidecars = [path for path in members if path.rpartition("/")[2] == LABELS]
        export = Export(source.name, Path(folder), paths, sidecars, members, archive)
        export.fetch(sidecars)
        yield export


def _of(source: Path, folder: Path, paths: list[str]) -> Export:
    return Export(source.name, folder, paths, [str(path.relative_to(folder)) for path in folder.rglob(LABELS)])


def _is_analysis_of(path: Path, source: Path) -> bool:
    return path.suffix.lower() == SUFFIX and path.stem.lower() == source.stem.lower() and path.is_file()
