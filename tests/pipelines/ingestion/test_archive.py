"""What a zip is unpacked to."""

import zipfile

from fatescope.data.export_folder import CORRECTIONS, ORIGIN
from fatescope.data.sidecar import LABELS
from pipelines.ingestion import archive


def test_only_the_log_of_corrections_itself_stays_in_a_zip(tmp_path):
    names = ["a.tif", ORIGIN, f"day1/{LABELS}", f"my_{CORRECTIONS}", f"day1/a{CORRECTIONS}"]
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as file:
        for name in (*names, CORRECTIONS, f"day1/{CORRECTIONS}"):
            file.writestr(name, name)
    assert archive.unpack(tmp_path / "export.zip", tmp_path / "data") == 3
    unpacked = (path for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path / "data").as_posix() for path in unpacked) == sorted(names)
