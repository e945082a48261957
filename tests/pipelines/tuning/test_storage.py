"""The journal of a study survives the process that writes it."""

import optuna
import pytest

from fatescope.errors import DataError
from pipelines.settings import PipelineSettings
from pipelines.tuning.storage import open_storage

LOCAL = PipelineSettings(studies=None)


@pytest.fixture
def journal(tmp_path):
    """The journal of a study of three trials."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=open_storage(path, LOCAL), study_name="a")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return path


def values(journal):
    study = optuna.load_study(storage=open_storage(journal, LOCAL), study_name="a")
    return [trial.value for trial in study.trials]


@pytest.mark.parametrize(
    "half", [b'{"op_code":4,"worker_id":"x","stu', b'{"op_code":4}', b"\x00" * 40, b"\x00" * 40 + b"\n"]
)
def test_half_a_last_line_is_removed_and_the_search_goes_on(journal, caplog, half):
    before, whole = values(journal), journal.read_bytes()
    journal.write_bytes(whole + half)
    assert values(journal) == before
    assert journal.read_bytes() == whole
    assert "study.journal: the last line was not written to its end" in caplog.text
    study = optuna.load_study(storage=open_storage(journal, LOCAL), study_name="a")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert values(journal)[:3] == before
    assert len(values(journal)) == 4


def test_a_journal_that_is_whole_stays_as_it_is(journal, caplog):
    whole = journal.read_bytes()
    values(journal)
    assert journal.read_bytes() == whole
    assert not caplog.text
    assert not list(journal.parent.glob("*.lock*"))


def test_damage_before_the_end_is_named(journal):
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, b"{half{}\n", *rest]))
    with pytest.raises(DataError, match=r"study\.journal: line 2 is damaged; remove the file"):
        open_storage(journal, LOCAL)
