import pytest

from fatescope import config
from fatescope.errors import ParamsError
from tests.support.project import ROOT


def test_the_project_own_file_loads():
    settings = config.load(ROOT / "params.yaml")
    assert settings.classes("binary") == ["astrocyte", "oligodendrocyte"]
    assert isinstance(settings.train.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.epochs": "twelve"}, r"train\.epochs: .*integer.*twelve"),
        ({"train.epochs": 0}, r"train\.epochs: .*greater than 0"),
        ({"train.surprise": 1}, r"train\.surprise: Extra inputs"),
        ({"train.views": "symmetries", "train.symmetries": False}, "needs symmetries: true"),
        ({"dataset.label": "mediun"}, r"label 'mediun' is not a named group"),
        ({"dataset.pattern": "("}, "not a regular expression"),
        ({"dataset.input_channel": None}, "input_channel must name"),
        ({"dataset.tasks": {"binary": ["astrocyte"]}}, "two or more different classes"),
        ({"dataset.tasks": {"binary": ["astrocyte", "neuron"]}}, r"names \['neuron'\]"),
        ({"dataset.tasks": {"a b": ["astrocyte", "NT3"]}}, "lower-case"),
    ],
)
def test_a_wrong_value_is_named(make_params, change, message):
    with pytest.raises(ParamsError, match=message):
        make_params(change)


def test_nothing_has_a_default():
    for section in config.Params.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.is_required(), name


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="run from the project's folder"):
        config.load(tmp_path / "params.yaml")


def test_an_unknown_task_lists_the_known(params):
    with pytest.raises(ParamsError, match=r"'trinary' .* \['binary', 'multiclass'\]"):
        params.classes("trinary")
