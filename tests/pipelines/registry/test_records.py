"""What is kept of a version fits where it is kept."""

import json

import pytest

from fatescope.errors import DataError
from pipelines.registry import versions
from pipelines.registry.records import Criterion, Verdict


def verdict(detail, names=("reproduces", "audit", "groups")):
    criteria = {name: Criterion(holds=name != "audit", detail=detail, value=0.5) for name in names}
    return Verdict(
        task="t", model="fatescope-t", version="1", criteria=criteria, champion=False, replaced=None, compared=detail
    )


def test_a_verdict_that_fits_is_kept_whole():
    short = verdict("shortcut: acquisition alone tells apart a / b")
    assert short.to_tag(versions.MAX_TAG) == short.to_json()


@pytest.mark.parametrize("letter", ["a", "é", "\N{TEST TUBE}"])
def test_long_texts_are_cut_and_the_decision_stays(letter):
    long = verdict(letter * 9000)
    tag = long.to_tag(versions.MAX_TAG)
    assert len(tag) <= versions.MAX_TAG
    kept = Verdict.model_validate(json.loads(tag))
    assert kept.failed == ["audit"]
    assert {criterion.value for criterion in kept.criteria.values()} == {0.5}
    detail = kept.criteria["audit"].detail
    assert detail.startswith(letter * 50)
    assert detail.endswith("…")


@pytest.mark.parametrize("letter", ["a", "é", "\N{TEST TUBE}"])
def test_a_verdict_of_any_length_is_read_whole_from_the_tags(letter):
    for length in (10, 1600, 9000):
        long = verdict(letter * length)
        tags = long.to_tags(versions.MAX_TAG)
        assert max(map(len, tags.values())) <= versions.MAX_TAG
        assert list(tags)[-1] == "gate", "a version that has it is not decided on again"
        assert Verdict.from_tags(tags) == long
        # As code before this one reads it, and where somebody deleted a tag.
        alone = Verdict.from_tags({"gate": tags["gate"]})
        assert alone.failed == Verdict.model_validate_json(tags["gate"]).failed == ["audit"]
        # A decision that was interrupted leaves tags of a verdict that does not count.
        assert Verdict.from_tags(verdict("other" * 9000).to_tags(versions.MAX_TAG) | tags) == long
    assert Verdict.from_tags({"bundle": "1"}) is None


def test_a_reason_that_is_too_long_is_refused_before_anything_is_recorded():
    with pytest.raises(DataError, match="'promoted' has 6000 characters, of which MLflow keeps 5000"):
        versions.set_tags("binary", "1", {"replaced": "2", "promoted": "a" * 6000})
