"""What a search gives to training."""

import json

import pytest
from optuna.trial import TrialState

from fatescope.errors import DataError
from pipelines.stages import train
from pipelines.tuning.result import STANDS, SearchResult
from pipelines.tuning.summary import summarise, without_search
from tests.support.studies import add_finished_trial, add_trials


def test_members_are_of_different_backbones_first(make_params, study):
    values = [("compact", 0.9), ("compact", 0.8), ("compact", 0.75), ("resnet18", 0.7), ("vgg19_bn", 0.6)]
    add_trials(study, *(({"backbone": backbone, "dropout": value}, value) for backbone, value in values))

    def chosen(count):
        members = summarise(study, make_params({"ensemble.members": count})).members
        return [(trial.params["backbone"], trial.value) for trial in members]

    assert chosen(2) == [("compact", 0.9), ("resnet18", 0.7)]
    assert chosen(4) == [("compact", 0.9), ("resnet18", 0.7), ("vgg19_bn", 0.6), ("compact", 0.8)]


def test_a_search_over_one_backbone_has_members_too_none_twice(make_params, study, caplog):
    add_trials(study, ({"dropout": 0.1}, 0.7), ({"dropout": 0.2}, 0.9), ({"dropout": 0.2}, 0.8))
    params = make_params({"ensemble.members": 3})
    result = summarise(study, params)
    assert [trial.number for trial in result.members] == [1, 0]
    assert [member.dropout for member in train.candidate_settings(params, result)["ensemble"]] == [0.2, 0.1]
    assert "ensemble" not in train.candidate_settings(params, without_search())
    assert "no ensemble: the search has one distinct trial only" in caplog.text


def test_best_is_replaced_at_once(tmp_path):
    path, first = tmp_path / "best.json", without_search()
    second = first.model_copy(update={"study": "other"})
    first.save(path)
    with path.open() as reader:
        second.save(path)
        assert SearchResult.model_validate_json(reader.read()) == first
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]
    assert SearchResult.load(path) == second


def test_without_trials_the_section_train_stands():
    result = without_search()
    assert result.best.params == {}
    assert len(result.members) == 1


def test_where_every_trial_is_too_long_the_section_train_stands(make_params, study, caplog):
    add_finished_trial(study, 0.1, TrialState.FAIL, reason="TrialTooLongError: it takes 9", needs_minutes=9.0)
    result = summarise(study, make_params({"ensemble.members": 2}))
    assert (result.best, result.members) == (STANDS, [STANDS])
    assert result.trials == {"fail": 1}
    assert result.failures[0].reason == "TrialTooLongError: it takes 9"
    assert "no trial ends within them on this machine" in caplog.text


def test_where_all_trials_fail_alike_the_reason_is_told_once_and_no_more_time_asked_for(make_params, study):
    for _ in range(3):
        add_finished_trial(study, 0.1, TrialState.FAIL, reason="ParamsError: train.groups: dro needs several")
    message = r"is complete: \['ParamsError: train.groups: dro needs several'\]; change what these name, or set tune.tr"
    with pytest.raises(DataError, match=message):
        summarise(study, make_params({}))


def test_where_no_trial_ended_more_time_is_asked_for(make_params, study):
    with pytest.raises(DataError, match=r"is complete: \[\]; raise tune.minutes"):
        summarise(study, make_params({}))


def test_a_trial_that_was_too_long_neither_wins_nor_joins_the_ensemble(make_params, study):
    add_trials(study, ({"backbone": "compact"}, 0.7))
    late = study.ask()
    late.set_user_attr("params", {"backbone": "resnet18"})
    late.report(0.9, 0)
    late.set_user_attr("reason", "TrialTooLongError: it takes 9")
    study.tell(late, state=TrialState.FAIL)
    result = summarise(study, make_params({"ensemble.members": 2}))
    assert [trial.params["backbone"] for trial in (result.best, *result.members)] == ["compact", "compact"]


def test_a_result_of_an_earlier_version_is_read(tmp_path):
    alone = {"number": None, "value": None, "params": {}}
    content = {"study": None, "sampler": None, "trials": {}, "failures": [], "best": alone, "members": [alone]}
    (tmp_path / "best.json").write_text(json.dumps(content))
    assert SearchResult.load(tmp_path / "best.json") == without_search()
