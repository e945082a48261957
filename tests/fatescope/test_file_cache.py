"""Files are read once, and again where they were replaced, also by one of the same time and size."""

import os

from fatescope.atomic import replacing
from fatescope.file_cache import FileCache


def replace(path, text):
    """Replace a file as `fatescope.forgetting` does, which keeps the time of its change."""
    status = path.stat()
    with replacing(path) as part:
        part.write_text(text)
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_is_read_again_only_where_it_was_replaced(tmp_path):
    read, paths = [], [tmp_path / "a", tmp_path / "b"]
    cache = FileCache(lambda path: read.append(path.name) or path.read_text())
    for path in paths:
        path.write_text("old")
    assert cache.read("group", paths) == cache.read("group", paths) == ["old", "old"]
    assert read == ["a", "b"]
    replace(paths[1], "new")
    assert cache.read("group", paths) == ["old", "new"]
    assert read == ["a", "b", "b"]
    paths[0].unlink()
    assert cache.read("group", paths) == ["new"]
    assert "old" not in str(vars(cache)), "what is gone is in no memory either"


def test_groups_that_nobody_asks_for_are_given_up(tmp_path):
    read, path = [], tmp_path / "a"
    path.write_text("old")
    cache = FileCache(lambda path: read.append(path.name), groups=2)
    for group in ("first", "second", "first", "third", "first", "second"):
        cache.read(group, [path])
    assert len(read) == 4
