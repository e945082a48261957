import numpy as np
import pytest

from service.batch import plan, worker
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical

PAGES = np.stack([typical(i) for i in range(3)])


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder of cells and other files, for parts of four files."""
    monkeypatch.setenv("FATESCOPE_ENGINE", "onnxruntime")
    monkeypatch.setenv("FATESCOPE_THREADS", "1")
    monkeypatch.setattr(plan, "PART_FILES", 4)
    monkeypatch.setattr(worker, "BATCH", 3)
    copy_bundle(tmp_path / "bundle", "multiclass")
    folder = tmp_path / "source"
    (folder / "run_1").mkdir(parents=True)
    for i in range(9):
        (folder / "run_1" / f"a_1d1_{i}_Ch1.ome.tif").write_bytes(tiff(typical(i)))
        (folder / "run_1" / f"a_1d1_{i}_Ch4.ome.tif").write_bytes(b"a marker channel, which is not used")
    (folder / "stack.tif").write_bytes(tiff(PAGES, photometric="minisblack"))
    (folder / "notes.txt").write_bytes(b"fed on monday")
    (folder / "gone.tif").symlink_to(folder / "nowhere")
    return folder
