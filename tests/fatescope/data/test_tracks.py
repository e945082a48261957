import numpy as np
import pandas as pd
import pytest

from fatescope.config import Dataset
from fatescope.config.presets import get_preset
from fatescope.data import tracks
from fatescope.data.dataset import CellDataset
from fatescope.errors import DataError

FOLLOWED = Dataset.read(get_preset("followed").values()["dataset"])


def cells(rows):
    """Return cells of (group, object, hour)."""
    table = pd.DataFrame(rows, columns=["group", "object", "hour"])
    return CellDataset(table.assign(cell_id=[f"{i}.tif" for i in range(len(rows))]), np.zeros((len(rows), 4, 4)))


def test_images_of_one_cell_of_one_group_share_a_key_and_are_put_in_order():
    found = tracks.read(cells([("g", "1", "12"), ("g", "2", "0"), ("h", "1", "0"), ("g", "1", "6")]), FOLLOWED)
    assert found.keys[0] == found.keys[3]
    assert len(set(found.keys.tolist())) == 3
    order, starts = found.in_order()
    assert found.take(order).keys.tolist() == sorted(found.keys.tolist())
    assert starts.tolist() == sorted({0, *(np.flatnonzero(np.diff(found.keys[order])) + 1)})
    assert [row for row in order if row in (0, 3)] == [3, 0]


def test_an_image_without_a_track_is_alone_and_needs_no_time():
    found = tracks.read(cells([("g", "", ""), ("g", "", "")]), FOLLOWED)
    assert found.keys[0] != found.keys[1]


def test_data_without_tracks_has_none():
    assert tracks.read(cells([("g", "1", "0")]), FOLLOWED.model_copy(update={"track": None, "time": None})) is None


@pytest.mark.parametrize(("text", "time"), [(" 6 ", 6), ("-1.5", -1.5), ("+.5e1", 5), ("007.", 7)])
def test_a_time_may_be_any_number(text, time):
    assert tracks.time_of(text) == time


@pytest.mark.parametrize("time", ["", "early", "nan", "inf", "1e999", "1_0", "0x10", "١٢", "1,5"])
def test_a_time_that_is_no_number_is_refused(time):
    with pytest.raises(DataError, match="is not a number; correct the name"):
        tracks.read(cells([("g", "1", time)]), FOLLOWED)


def test_cells_that_were_ingested_without_the_groups_are_refused():
    source = cells([("g", "1", "0")])
    with pytest.raises(DataError, match=r"\['hour'\], which these cells do not have; run the ingest stage"):
        tracks.read(CellDataset(source.manifest.drop(columns="hour"), source.pixels), FOLLOWED)
