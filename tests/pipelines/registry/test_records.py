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


def test_a_reason_that_is_too_long_is_refused_before_anything_is_recorded():
    with pytest.raises(DataError, match="'promoted' has 6000 characters, of which MLflow keeps 5000"):
        versions.set_tags("binary", "1", {"replaced": "2", "promoted": "a" * 6000})
