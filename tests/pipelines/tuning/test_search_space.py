"""What a trial may set, and what is refused."""

import json

import optuna
import pytest

from fatescope.errors import ParamsError
from pipelines.tuning import search_space
from pipelines.tuning.sampler import SamplerByNumber


def test_a_trial_sets_fields_of_train(make_params):
    backbones, normalisations = ["compact", "mobilenet_v2"], ["contrast", "background"]
    params = make_params({"tune.space.backbone": backbones, "tune.space.normalisation": normalisations})
    trial = optuna.trial.FixedTrial(
        {
            "backbone": '"mobilenet_v2"',
            "input_size": "[60, 60]",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "dropout": 0.1,
            "batch_size": "32",
            "label_smoothing": 0.0,
            "max_shift": "4",
            "intensity": 0.1,
            "normalisation": '"background"',
        }
    )
    settings, chosen = search_space.suggest(trial, params.tune, params.train)
    assert (settings.backbone, settings.input_size, settings.batch_size) == ("mobilenet_v2", (60, 60), 32)
    assert (settings.max_shift, settings.normalisation) == (4, "background")
    assert settings.epochs == params.train.epochs
    assert params.train.changed(json.loads(json.dumps(chosen))) == settings


def test_a_picky_backbone_gets_the_sizes_that_it_takes(make_params):
    params = make_params(
        {"tune.space": {"backbone": ["inception_v3"], "input_size": [[45, 60], [75, 75]], "dropout": [0.5]}}
    )
    study = optuna.create_study()
    trial = study.ask()
    settings, _ = search_space.suggest(trial, params.tune, params.train)
    assert settings.input_size == (75, 75)
    assert "input_size of inception_v3" in trial.params


@pytest.mark.parametrize(
    ("backbone", "sizes", "stems", "label"),
    [
        ("resnet18", [[45, 60]], {"standard", "small"}, "stem"),
        # Both are the same, so that one is tried.
        ("compact", [[45, 60]], {"standard"}, "stem of compact"),
        ("inception_v3", [[45, 60]], {"small"}, "stem of inception_v3"),
        ("inception_v3", [[45, 60], [75, 75]], {"standard", "small"}, "stem"),
    ],
)
def test_stems_are_searched_where_they_differ_and_a_size_suits_them(make_params, backbone, sizes, stems, label):
    space = {"backbone": [backbone], "input_size": sizes, "stem": ["standard", "small"]}
    params = make_params({"tune.space": space})
    search_space.check(params)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(12)]
    drawn = [search_space.suggest(trial, params.tune, params.train)[0] for trial in trials]
    assert {settings.stem for settings in drawn} == stems
    assert all(label in trial.params for trial in trials)
    for settings in drawn:
        assert min(settings.input_size) >= (75 if backbone == "inception_v3" and settings.stem == "standard" else 45)


def test_a_space_of_unknown_fields_is_refused(make_params):
    with pytest.raises(ParamsError, match=r"space names \['epochs', 'lr'\]"):
        make_params({"tune.space": {"lr": [1], "epochs": [3]}})
    with pytest.raises(ParamsError, match="low must be below high"):
        make_params({"tune.space": {"dropout": {"low": 0.5, "high": 0.1, "log": False}}})


@pytest.mark.parametrize(
    ("name", "allowed", "message"),
    [
        ("dropout", ["x"], r'space.dropout cannot be "x": Input should be a valid number'),
        ("dropout", [0.1, 2], "space.dropout cannot be 2: Input should be less than or equal to 1"),
        ("dropout", {"low": 0.1, "high": 2.0, "log": False}, "space.dropout cannot be 2.0"),
        ("balance", ["weight"], 'space.balance cannot be "weight"'),
        ("symmetries", [1, 0], "space.symmetries cannot be 1: Input should be a valid boolean"),
        ("batch_size", [True], "space.batch_size cannot be true: Input should be a valid integer"),
        ("batch_size", {"low": 0, "high": 64, "log": False}, "space.batch_size cannot be 0"),
        ("max_shift", {"low": 0.5, "high": 4, "log": False}, "space.max_shift cannot be 0.5"),
        ("backbone", {"low": 1, "high": 2, "log": False}, "space.backbone cannot be 1.0"),
    ],
)
def test_a_value_that_train_cannot_have_is_refused_with_its_field(make_params, name, allowed, message):
    with pytest.raises(ParamsError, match=message):
        make_params({"tune.space": {name: allowed}})


def test_yes_and_no_and_whole_numbers_can_be_searched(make_params):
    allowed = {
        "symmetries": [True, False],
        "batch_size": {"low": 16, "high": 128, "log": True},
        "max_shift": {"low": 0, "high": 4, "log": False},
    }
    params = make_params({"tune.space": allowed})
    study = optuna.create_study(sampler=SamplerByNumber(params.tune))
    study.enqueue_trial(search_space.as_trial(params.train, params.tune))
    drawn = [search_space.suggest(study.ask(), params.tune, params.train) for _ in range(12)]
    assert drawn[0][0] == params.train
    assert {settings.symmetries for settings, _ in drawn} == {True, False}
    assert all(isinstance(chosen["batch_size"], int) and 16 <= chosen["batch_size"] <= 128 for _, chosen in drawn)
    assert {chosen["max_shift"] for _, chosen in drawn} <= {0, 1, 2, 3, 4}


def test_the_default_has_several_brackets_of_hyperband(params):
    assert params.tune.min_epochs * 3 <= params.tune.epochs


def test_the_first_trial_is_what_params_say(make_params):
    params = make_params()
    first = search_space.as_trial(params.train, params.tune)
    settings, _ = search_space.suggest(optuna.trial.FixedTrial(first), params.tune, params.train)
    assert settings == params.train
