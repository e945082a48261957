import pytest

from fatescope import config
from fatescope.config import names, presets
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
        ({"train.batch_size": 1}, r"train\.batch_size: .*greater than or equal to 2"),
        ({"train.surprise": 1}, r"train\.surprise: Extra inputs"),
        ({"train.views": "symmetries", "train.symmetries": False}, "needs symmetries: true"),
        ({"train.freeze": True}, "weights: none are random; set weights to imagenet or to the path of a file"),
        ({"dataset.label": "mediun"}, r"label 'mediun' is not a named group"),
        ({"dataset.pattern": "("}, "not a regular expression"),
        ({"dataset.channels": None}, "channels must name"),
        ({"dataset.tasks": {"binary": ["astrocyte"]}}, "two or more different classes"),
        ({"dataset.tasks": {"binary": ["astrocyte", "neuron"]}}, r"names \['neuron'\]"),
        ({"dataset.tasks": {"a b": ["astrocyte", "NT3"]}}, "lower-case"),
        ({"dataset.tasks": {"cells": ["astrocyte", "NT3"]}}, "task name 'cells' is taken: artifacts/cells"),
        ({"dataset.tasks": {"incidents": ["astrocyte", "NT3"]}}, "task name 'incidents' is taken"),
        ({"dataset.tasks": {"a" * 51: ["astrocyte", "NT3"]}}, "has 51 characters; 50 are allowed"),
        ({"dataset.classes": {"a": "b" * 101}}, "class name 'bbbbbbbbbbbbbbbbbbbb…' has 101 characters"),
        ({"dataset.classes": {"a": "two\nlines"}}, "does not print"),
        ({"dataset.classes": {"a": "CD4+;CD8+"}}, "has a ';', which stands between classes"),
        ({"dataset.classes": {"a": " a"}}, "begins or ends with a space"),
        ({"dataset.classes": {"a": ""}}, "is empty"),
    ],
)
def test_a_wrong_value_is_named(make_params, change, message):
    with pytest.raises(ParamsError, match=message):
        make_params(change)


@pytest.mark.parametrize("name", ["cells", "audit", "validation", "bench", "incidents"])
def test_a_task_is_called_like_nothing_that_is_there_already(name):
    with pytest.raises(ValueError, match=f"task name '{name}' is taken: .*; choose another"):
        names.check_task(name)
    assert names.check_task(f"{name}_2") == f"{name}_2"


@pytest.mark.parametrize(("check", "most"), [(names.check_task, 50), (names.check_class, 100)])
def test_a_name_may_be_as_long_as_it_says(check, most):
    assert check("a" * most) == "a" * most
    with pytest.raises(ValueError, match=f"has {most + 1} characters; {most} are allowed"):
        check("a" * (most + 1))


def test_nothing_has_a_default():
    for section in config.Params.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.is_required(), name


def test_a_file_of_before_loads():
    """With the bootstrap's fields, which nothing reads any more, and without those that are new."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    old = rewritten(
        {
            "min_groups: 3": "repeats: 1000",
            "folds: 3": "# one candidate, calibrated on validation cells",
            "folds: 5": "folds: 5\n  repeats: 200",
            "stem:": "# strides as they were made",
            "bins:": "bins: 10\n  repeats: 500",
            "freeze: false": "# every fit trains the backbone",
        }
    )
    assert old.count("repeats") == 3
    assert "min_groups: 3" not in old
    assert "folds: 3" not in old
    assert "stem" not in old
    assert "freeze:" not in old
    assert config.params.parse(old, "old") == config.params.parse(text, "new")
    with pytest.raises(ParamsError, match=r"tune\.repeats: Extra inputs are not permitted"):
        config.params.parse(text.replace("  sampler: tpe", "  repeats: 3\n  sampler: tpe"), "wrong")


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="run from the project's folder"):
        config.load(tmp_path / "params.yaml")


def test_an_unknown_task_lists_the_known(params):
    with pytest.raises(ParamsError, match=r"'trinary' .* \['binary', 'multiclass'\]"):
        params.classes("trinary")


def rewritten(changes):
    """The project's file as text, with lines of it replaced."""
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    for start, new in changes.items():
        [place] = [number for number, line in enumerate(lines) if line.strip().startswith(start)]
        indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
        lines[place] = indent + new
    return "\n".join(lines) + "\n"


def test_names_are_what_stands_in_the_file(tmp_path):
    changes = {
        "classes:": "classes: {002: 1.10, 03: null, 1.50: CD4+, false: CD4-, 0x1f: a//b}",
        "binary:": "binary: [1.10, null]",
        "multiclass:": "multiclass: [CD4+, CD4-, a//b]",
        "channels:": "channels: {01: brightfield, 06: darkfield}",
        "marker_channels: ['2'": "marker_channels: [02, 1e1]",
        "leave_out:": "leave_out: [001, 1e3]",
        "signed_off:": "signed_off: {binary: {name: 007, reason: 12}}",
    }
    path = tmp_path / "params.yaml"
    path.write_text(rewritten(changes), encoding="utf-8")
    settings = config.load(path)
    dataset = settings.dataset
    assert dataset.classes == {"002": "1.10", "03": "null", "1.50": "CD4+", "false": "CD4-", "0x1f": "a//b"}
    assert dataset.tasks == {"binary": ["1.10", "null"], "multiclass": ["CD4+", "CD4-", "a//b"]}
    assert (dataset.inputs, dataset.marker_channels) == (("01", "06"), ["02", "1e1"])
    assert settings.split.leave_out == ["001", "1e3"]
    signed = settings.gate.signed_off["binary"]
    assert (signed.name, signed.reason) == ("007", "12")
    # A preset is written into the file without touching them.
    presets.apply_preset(path, "thorough")
    assert config.load(path).dataset == dataset


def test_no_channel_is_no_name(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        rewritten({"pattern:": "pattern: '(?P<medium>a)(?P<day>1)(?P<run>2)'", "channels:": "channels: null"})
    )
    assert config.load(path).dataset.channels is None


@pytest.mark.parametrize("name", ["001", "null", "1_0", "0x1f", "true"])
def test_a_task_that_dvc_would_call_otherwise_has_to_be_in_quotes(tmp_path, name):
    path = tmp_path / "params.yaml"
    path.write_text(rewritten({"binary:": f"{name}: [astrocyte, oligodendrocyte]"}))
    with pytest.raises(ParamsError, match=f"write '{name}' in quotes"):
        config.load(path)
    path.write_text(rewritten({"binary:": f"'{name}': [astrocyte, oligodendrocyte]"}))
    assert config.load(path).classes(name) == ["astrocyte", "oligodendrocyte"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("{001: astrocyte, ctrl: NT3}", "001: YAML does not read this as text; write '001' in quotes"),
        ("{null: a, true: b, ctrl: NT3}", "null, true: .* write 'null', 'true' in quotes"),
        ("{null: a, 1: b}", "1, null: .* write '1', 'null' in quotes"),
        ("{a: 2026-11-26}", "2026-11-26: .* write '2026-11-26' in quotes"),
        ("{2026-11-26: a}", "2026-11-26: .* write '2026-11-26' in quotes"),
    ],
)
def test_what_dvc_fails_on_has_to_be_in_quotes(tmp_path, classes, message):
    path = tmp_path / "params.yaml"
    path.write_text(rewritten({"classes:": f"classes: {classes}"}))
    with pytest.raises(ParamsError, match=message):
        config.load(path)


def test_labels_in_quotes_are_taken(tmp_path):
    path, classes = (
        tmp_path / "params.yaml",
        "{'001': astrocyte, 'null': oligodendrocyte, '2026-11-26': RA/SHH, ctrl: NT3}",
    )
    path.write_text(rewritten({"classes:": f"classes: {classes}"}))
    assert list(config.load(path).dataset.classes) == ["001", "null", "2026-11-26", "ctrl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "should be an object"),
        ("{1.10: 1}", r"1\.1: Extra inputs"),
        ("x: 2026-13-45", "not YAML: month must be"),
        ("a: &a [*a]", "not YAML"),
        ("a: 1\na: 2", "not YAML"),
        ("dataset: {classes: {001: a, 1: b}}", "duplicate key"),
    ],
)
def test_a_file_that_is_something_else_is_an_error_of_one_kind(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=message):
        config.load(path)


@pytest.mark.parametrize(
    ("hierarchy", "message"),
    [
        ({"other": {"glia": ["astrocyte", "NT3"]}}, "hierarchy names the task 'other', which tasks does not have"),
        ({"multiclass": {"NT3": ["astrocyte", "RA/SHH"]}}, "'NT3' has the name of a class"),
        ({"binary": {"glia": ["astrocyte", "NT3"]}}, r"joins \['NT3'\], which are no classes of the task"),
        ({"multiclass": {"glia": ["astrocyte"]}}, "it must join two classes or more, but not all"),
        ({"binary": {"glia": ["astrocyte", "oligodendrocyte"]}}, "it must join two classes or more, but not all"),
        (
            {"multiclass": {"glia": ["astrocyte", "oligodendrocyte"], "both": ["astrocyte", "NT3"]}},
            r"joins \['astrocyte'\] twice; a class has one coarse class at most",
        ),
    ],
)
def test_coarse_classes_that_cannot_be_are_refused(make_params, hierarchy, message):
    with pytest.raises(ParamsError, match=message):
        make_params({"dataset.hierarchy": hierarchy})


def test_a_marker_is_never_an_input(make_params):
    change = {"dataset.channels": {"1": "brightfield", "04": "darkfield"}, "dataset.marker_channels": ["3", "4"]}
    with pytest.raises(ParamsError, match="channel '04' is among marker_channels, and a marker is never an input"):
        make_params(change)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({}, "channels names no channel"),
        ({"1": "brightfield", "01": "darkfield"}, "channels names a channel twice"),
        ({"1": "fluorescence"}, "Input should be 'brightfield' or 'darkfield'"),
    ],
)
def test_channels_that_cannot_be_are_refused(make_params, channels, message):
    with pytest.raises(ParamsError, match=message):
        make_params({"dataset.channels": channels})


@pytest.mark.parametrize(("written", "channels"), [("'1'", {"1": "brightfield"}), ("01", {"01": "brightfield"})])
def test_a_file_of_before_there_were_several_channels_is_read(tmp_path, caplog, written, channels):
    path, lines = tmp_path / "params.yaml", rewritten({"channels:": f"input_channel: {written}"}).splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("  marker_channels: [")))
    dataset = config.load(path).dataset
    assert (dataset.channels, dataset.marker_channels) == (channels, [])
    [warning] = [record.message for record in caplog.records if "input_channel" in record.message]
    told = channels and next(iter(channels))
    assert warning.endswith(
        f"input_channel is now dataset.channels; write channels: {{'{told}': brightfield}} in its place"
    )
    # A preset of data brings the channels in its place.
    presets.apply_preset(path, "jurkat_ifc")
    assert "input_channel" not in path.read_text()
    assert config.load(path).dataset.marker_channels == ["4"]


def test_a_file_with_both_is_refused(make_params):
    with pytest.raises(ParamsError, match=r"dataset\.input_channel: Extra inputs"):
        make_params({"dataset.input_channel": "1"})


def test_a_file_that_is_older_than_the_section_quality_leaves_no_cell_out(tmp_path):
    lines = (ROOT / "params.yaml").read_text().splitlines(keepends=True)
    start = lines.index("quality:\n")
    end = lines.index("split:\n")
    older = tmp_path / "params.yaml"
    older.write_text("".join(lines[:start] + lines[end:]))
    assert config.load(older).quality == config.load(ROOT / "params.yaml").quality
    assert not config.load(older).quality.exclude
    presets.apply_preset(older, "gated")
    assert config.load(older).quality.exclude


def test_a_limit_of_quality_that_does_not_exist_is_named(make_params):
    with pytest.raises(ParamsError, match=r"quality\.limits\.max_area"):
        make_params({"quality.limits": {"max_area": 900.0}})
