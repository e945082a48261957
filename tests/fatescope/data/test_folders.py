import shutil

import pytest

from fatescope.data.folders import fresh_folder, scratch_folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def target(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/old").write_text("old")
    return tmp_path / "cells"


def test_the_new_content_replaces_the_old_when_it_is_complete(target):
    with fresh_folder(target) as folder:
        (folder / "new").write_text("new")
        assert content(target) == {"old": "old"}
    assert content(target) == {"new": "new"}
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("keep_failed", [False, True])
def test_a_failure_leaves_the_old_content(target, keep_failed):
    def fill():
        with fresh_folder(target, keep_failed=keep_failed) as folder:
            (folder / "new").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert content(target.parent) == {"cells/old": "old", **({"cells.part/new": "new"} if keep_failed else {})}
    with fresh_folder(target) as folder:
        assert content(folder) == {}
    assert list(target.parent.iterdir()) == [target]


def test_a_kill_between_the_two_renames_is_put_right(target):
    shutil.copytree(target, target.with_name("cells.part"))
    target.rename(target.with_name(".cells.replaced"))
    with scratch_folder(target):
        assert content(target) == {"old": "old"}
    assert list(target.parent.iterdir()) == [target]
