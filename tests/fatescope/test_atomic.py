import os

import pytest

from fatescope.atomic import replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as part:
        part.write_text("ne")
        raise OSError("disk full")
    assert (os.listdir(tmp_path), path.read_text()) == (["table.csv"], "old")
    with replacing(path) as part, replacing(path) as other:
        part.write_text("new")
        other.write_text("newer")
        assert path.read_text() == "old"
    assert (os.listdir(tmp_path), path.read_text()) == (["table.csv"], "new")
