import pytest

from fatescope.atomic import replacing


def fail_halfway(path):
    with replacing(path) as part:
        part.write_text("ne")
        raise OSError("disk full")


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fail_halfway(path)
    assert content(tmp_path) == {"table.csv": "old"}
    with replacing(path) as part, replacing(path) as other:
        part.write_text("new")
        other.write_text("newer")
        assert path.read_text() == "old"
    assert content(tmp_path) == {"table.csv": "new"}
