"""Code, packages and data of a rebuild come from where they were recorded."""

import subprocess
import sys
from pathlib import Path

import pytest

from fatescope.errors import FatescopeError
from pipelines.provenance.code import Code
from pipelines.verification import workplace
from pipelines.verification.workplace import Workplace

CODE = Path("pipelines/provenance/code.py")
"""What tells that a repository is one of this project."""


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of one file of code, which was changed since."""
    folder = tmp_path / "repository"
    (folder / CODE).parent.mkdir(parents=True)
    (folder / CODE).write_text("before = 1\n")
    git(folder.parent, "init", "--quiet", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Begin")
    (folder / CODE).write_text("before = 1\nafter = 'é'\n")
    return folder


def test_a_checkout_has_the_commit_and_what_was_changed_since(repository, tmp_path):
    code = Code.of(repository)
    assert (len(code.commit), code.unknown, code.repository) == (40, [], None)
    # What happens to the repository later is not a part of it.
    git(repository, "commit", "--quiet", "-am", "Go on")
    (repository / CODE).write_text("something else\n")
    found = workplace.find_repository(code, None, repository)
    assert found == str(repository)
    workplace.check_out(code, found, tmp_path / "checkout")
    assert (tmp_path / "checkout" / CODE).read_text() == "before = 1\nafter = 'é'\n"
    assert Code.of(tmp_path / "checkout").commit == code.commit


def test_what_git_does_not_know_is_named(repository):
    (repository / "pipelines/new.py").write_text("")
    (repository / "notes.txt").write_text("no code")
    assert Code.of(repository).unknown == ["pipelines/new.py"]


def test_a_commit_of_another_repository_needs_an_address(repository, tmp_path):
    code = Code(commit="0" * 40)
    with pytest.raises(FatescopeError, match="commit 000000000000 is not in the repository of this folder"):
        workplace.find_repository(code, None, repository)
    recorded = code.model_copy(update={"repository": "https://example.org/a.git"})
    assert workplace.find_repository(recorded, None, tmp_path) == "https://example.org/a.git"
    assert workplace.find_repository(recorded, "/srv/a", repository) == "/srv/a"


def test_an_environment_is_made_by_the_recorded_constraints(tmp_path, monkeypatch):
    """With a Python that writes down what it is asked for, and makes an environment of itself."""
    log, python, checkout = tmp_path / "log", tmp_path / "python", tmp_path / "checkout"
    checkout.mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"\nexit 0\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(workplace, "find_python", lambda _: str(python))
    made = workplace.make_environment(tmp_path / "made", checkout, "3.11.7", "torch==2.14.1\n", {})
    assert made == tmp_path / "made/bin/python"
    assert log.read_text().splitlines() == [
        f"-m venv {tmp_path / 'made'}",
        f"-m pip install --quiet --disable-pip-version-check -c {checkout / 'constraints.txt'} -e .[pipelines]",
    ]
    assert (checkout / "constraints.txt").read_text() == "torch==2.14.1\n"
    # Where the code had none, by what was installed.
    workplace.make_environment(tmp_path / "again", checkout, "3.11.7", None, {"numpy": "2.4.6"})
    assert (checkout / "constraints.txt").read_text() == "numpy==2.4.6\n"


def test_a_python_that_is_not_here_is_named(monkeypatch):
    assert workplace.find_python(f"{sys.version_info.major}.{sys.version_info.minor}.0") == sys.executable
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FatescopeError, match=r"made by Python 3\.2\.1, and there is no python3\.2 on the path"):
        workplace.find_python("3.2.1")


def test_data_of_which_nothing_was_recorded_have_to_be_named(tmp_path):
    work = Workplace(tmp_path, Path(sys.executable), {})
    with pytest.raises(FatescopeError, match=r"the version has no data\.dvc.*--data"):
        workplace.bring_data(work, None, None, "")
    with pytest.raises(FatescopeError, match="absent: no such folder"):
        workplace.bring_data(work, None, tmp_path / "absent", "")
    assert workplace.bring_data(work, None, tmp_path, "") == tmp_path


@pytest.mark.slow
def test_recorded_data_come_from_the_cache_of_the_repository(repository, tmp_path):
    def dvc(*arguments):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=repository, check=True, capture_output=True)

    dvc("init", "--quiet")
    (repository / "data").mkdir()
    (repository / "data/a.tif").write_text("of then")
    dvc("add", "--quiet", "data")
    recorded = (repository / "data.dvc").read_text()
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "Data")
    # The laboratory has gone on; the version of then is in the cache alone.
    (repository / "data/b.tif").write_text("of now")
    dvc("add", "--quiet", "data")
    checkout = tmp_path / "checkout"
    workplace.check_out(Code.of(repository).model_copy(update={"changes": ""}), str(repository), checkout)
    work = Workplace(checkout, Path(sys.executable), {})
    data = workplace.bring_data(work, recorded, None, str(repository))
    assert [path.name for path in data.iterdir()] == ["a.tif"]
    assert (data / "a.tif").read_text() == "of then"
