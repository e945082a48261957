"""The change-control protocol of a task, by the parameters of the project."""

import re

import pytest

from fatescope.config import load
from fatescope.errors import ParamsError
from pipelines.registry.protocol import RULES, draw_up
from pipelines.registry.records import Criterion, Verdict
from pipelines.reporting import protocol_page
from tests.support.project import ROOT


@pytest.fixture
def params():
    return load(ROOT / "params.yaml")


def changed(params, section, **values):
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def rows(page, heading):
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}


def test_every_figure_of_the_protocol_is_one_of_the_parameters(params):
    page = protocol_page.render(draw_up("binary", params))
    assert "| the lower bound of its balanced accuracy is above chance, 0.500 |" in page
    gate = {"min_groups": 7, "max_calibration_error": 0.033, "max_group_fall": 0.077, "min_group_cells": 41,
            "confidence": 0.9}  # fmt: skip
    other = changed(changed(params, "gate", **gate), "audit", shortcut_auc=0.83)
    other = changed(changed(other, "split", test_share=0.4), "tune", space={"dropout": [0.1, 0.3]})
    tests = rows(protocol_page.render(draw_up("multiclass", other)), "How a change is tested")
    for criterion, text in {
        "replicates": "7 test groups",
        "calibration": "at most 0.033",
        "groups": "group of 41 test cells or more loses more than 0.077",
        "better": "10 % of versions",
        "audit": "below 0.83",
        "informative": "chance, 0.250",
    }.items():
        assert text in tests[criterion]
    changes = rows(protocol_page.render(draw_up("multiclass", other)), "What may change")
    assert "| 0.1, 0.3 | `tune.space.dropout` |" in changes["`dropout` of the network and its training"]
    assert "40 % of new acquisition groups" in changes["test data"]
    assert not any("backbone" in name for name in changes)
    none = rows(protocol_page.render(draw_up("binary", changed(params, "tune", trials=0))), "What may change")
    assert "nothing, because there is no search" in none["the network and its training"]


def test_a_cheaper_challenger_is_a_rule_only_where_it_is_accepted(params):
    accepting = changed(params, "gate", accept="not_worse_and_cheaper", margin=0.024)
    better = {name: rule for name, (_, rule) in RULES.items()}["better"]
    assert "at most 0.024 where it takes fewer multiply-adds" in better(accepting, "binary")
    assert "fewer multiply-adds" not in better(params, "binary")


def test_a_verdict_stands_beside_what_was_asked(params):
    criteria = {
        "reproduces": Criterion(holds=True, detail="the test tensors give the expected logits"),
        "baselines": Criterion(holds=False, detail="0.61; acquisition alone reaches 0.70"),
    }
    verdict = Verdict(
        task="binary", model="fatescope-binary", version="4", criteria=criteria, champion=False, replaced=None,
        compared=None, against="3",
    )  # fmt: skip
    drawn = draw_up("binary", params, verdict)
    page = protocol_page.render(drawn)
    tests = rows(page, "How a change is tested")
    assert tests["reproduces"].endswith("| no | holds: the test tensors give the expected logits |")
    assert tests["baselines"].endswith("| yes | **does not hold**: 0.61; acquisition alone reaches 0.70 |")
    assert tests["better"].endswith("| not asked |")
    assert "Version 4, compared with version 3, did not become the champion." in page
    assert drawn.to_json()["tests"][0]["holds"] is True
    assert not re.search(r"\{\{|\{%|None", page)


def test_who_has_signed_off_is_named_with_the_reason(params):
    signature = {"name": "Ada Lovelace", "reason": "one instrument only", "criteria": ["baselines", "audit"]}
    gate = type(params.gate).model_validate(params.gate.model_dump() | {"signed_off": {"binary": signature}})
    signed = params.model_copy(update={"gate": gate})
    line = rows(protocol_page.render(draw_up("binary", signed)), "Who signs")[
        "a criterion that does not hold and may be signed off"
    ]
    assert "Ada Lovelace, for baselines, audit" in line
    assert "one instrument only" in line
    assert "nobody has" in protocol_page.render(draw_up("multiclass", signed))
    with pytest.raises(ParamsError, match="task 'other'"):
        draw_up("other", params)
