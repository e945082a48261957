import re

import pytest

from fatescope import config
from fatescope.config import presets
from fatescope.errors import ParamsError
from tests.support.project import ROOT

COMMENT = re.compile(r"\s#.*$", re.MULTILINE)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    return path


def test_every_preset_has_a_title_and_a_kind():
    known = presets.list_presets()
    assert {"nsc_sample", "jurkat_ifc", "malaria", "ideas", "thorough"} <= {preset.name for preset in known}
    assert all(preset.title and preset.path.is_file() for preset in known)
    assert [preset.kind for preset in known] == sorted(preset.kind for preset in known)
    assert {preset.name: preset.kind for preset in known}["ideas"] == "data"


@pytest.mark.parametrize("name", [preset.name for preset in presets.list_presets()])
def test_a_preset_sets_its_fields_and_no_others(own, name):
    before = config.load(own).model_dump(mode="json", by_alias=True)
    presets.apply_preset(own, name)
    after = config.load(own).model_dump(mode="json", by_alias=True)
    expected = {
        section: fields | presets.get_preset(name).values().get(section, {}) for section, fields in before.items()
    }
    assert after == expected


def test_comments_and_order_of_the_file_stay(own):
    before = own.read_text()
    presets.apply_preset(own, "ideas")
    after = own.read_text()
    assert COMMENT.findall(after) == COMMENT.findall(before)
    # Outside the section dataset, not a byte differs.
    assert after[after.index("simulate:") :] == before[before.index("simulate:") :]
    assert [line.split(":")[0] for line in after.splitlines()[3:12]] == [
        line.split(":")[0] for line in before.splitlines()[3:12]
    ]


def test_a_preset_brings_the_comments_of_its_values(own):
    presets.apply_preset(own, "malaria")
    (line,) = [line for line in own.read_text().splitlines() if "  channels:" in line]
    assert line.endswith("# one image a cell: the paths name no channel")


def test_an_unknown_preset_lists_the_known(own):
    with pytest.raises(
        ParamsError, match=r"'thorogh' does not exist; .*ideas, jurkat_ifc, lineages, malaria, nsc_sample, .*thorough"
    ):
        presets.apply_preset(own, "thorogh")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  trials: 8 ", "  trials: many ", r"params\.yaml: tune\.trials: .*many"),
        ("ensemble:", "ensembl:", "has no section 'ensemble'"),
        ("ensemble:", "ensemble: {", "not YAML"),
    ],
)
def test_a_file_that_would_not_load_stays_as_it_is(own, old, new, message):
    text = own.read_text().replace(old, new)
    assert text.count(new) == 1
    own.write_text(text)
    with pytest.raises(ParamsError, match=message):
        presets.apply_preset(own, "jurkat_ifc" if "trials" in old else "thorough")
    assert own.read_text() == text
    assert list(own.parent.iterdir()) == [own]
