import optuna
import pytest

from tests.support.studies import open_journal


@pytest.fixture
def study(tmp_path):
    return optuna.create_study(storage=open_journal(tmp_path / "a.journal"), study_name="a", direction="maximize")
