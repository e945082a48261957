"""Made-up exports of an instrument."""

from tests.support.images import draw_cell, tiff


def write_export(folder, rng, runs=(1, 2, 3)):
    """Write an export of made-up cells: two classes that differ in size, 8 cells a class and run, two channels."""
    folder.mkdir()
    for medium, radius in (("a", 8), ("o", 14)):
        for run in runs:
            for number in range(8):
                height, width = rng.integers(40, 50), rng.integers(50, 70)
                pixels = draw_cell(rng, height, width, radius)
                (folder / f"{medium}_1d{run}_{number}_Ch1.ome.tif").write_bytes(tiff(pixels))
                (folder / f"{medium}_1d{run}_{number}_Ch2.ome.tif").write_bytes(tiff(pixels // 2))
    return folder
