"""What records of a shadow say, in words and numbers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from fatescope.inference.shadow_labels import judge_labels
from fatescope.inference.shadow_report import compare

START = datetime(2026, 11, 26, 8, tzinfo=UTC)


def table(champion, challenger, **more):
    """Return rows of cells with these calls, two a request."""
    cells = len(champion)
    columns = {
        "time": pd.to_datetime([START + timedelta(minutes=i) for i in range(cells)]),
        "request_id": [f"r{i // 2}" for i in range(cells)],
        "champion": "3",
        "challenger": "4",
        "champion_label": champion,
        "label": challenger,
        "champion_verdict": ["sure"] * (cells - 1) + ["unlike_training"],
        "verdict": "sure",
        "divergence": np.linspace(0, 0.2, cells),
        "ms": 2.0,
        "pixel_hash": [f"h{i}" for i in range(cells)],
        "dropped": [3] + [0] * (cells - 1),
    }
    return pd.DataFrame({**columns, **more})


def labelled(gains, groups=None, *, asked=True):
    """Return labelled cells: 1 where the challenger alone is right, -1 where the champion alone is."""
    champion, challenger = (["a" if wrong * gain < 1 else "b" for gain in gains] for wrong in (1, -1))
    return table(champion, challenger, truth="a", group=groups or [None] * len(gains), asked=asked)


def test_agreement_verdicts_divergence_time_and_drops_are_told():
    report = compare(table(["a"] * 30, ["a"] * 27 + ["b"] * 3), pd.DataFrame(), "binary", START)
    assert (report.cells, report.requests, report.dropped) == (30, 15, 3)
    assert report.agreement == pytest.approx(0.9)
    assert report.agreement_low < 0.9 < report.agreement_high
    assert report.differing == {"a → b": 3}
    assert report.verdicts["unlike_training"] == {"sure": 1, "unsure": 0, "unlike_training": 0}
    text = report.describe()
    for part in (
        "version 4 in the shadow of version 3",
        "30 of 15 requests; 3 more",
        "a → b: 3",
        "0.100 on average",
        "2.00 ms of a core",
        "no correction of these versions",
    ):
        assert part in text


def test_groups_that_wait_for_an_hour_are_told_in_words():
    text = compare(table(["a"] * 4, ["a"] * 4), labelled([1] * 3, ["run1"] * 2 + [None]), "binary", START).describe()
    assert "counted by 0 acquisition groups and 1 cell of no known group; 1 group still open" in text


def test_labels_that_were_asked_for_show_a_better_challenger():
    judged = judge_labels(labelled([1] * 12 + [0] * 30), START)
    assert (judged.champion_right, judged.challenger_right, judged.cells) == (30, 42, 42)
    assert judged.verdict == "better"
    assert 0 < judged.low < 12 / 42 < judged.high


def test_volunteered_corrections_never_show_a_better_challenger_but_a_worse_one():
    judged = judge_labels(labelled([1] * 200, asked=False), START)
    assert (judged.verdict, judged.low) == ("undecided", None)
    assert "asked for" in judged.describe()
    assert judge_labels(labelled([-1] * 12, asked=False), START).verdict == "worse"


def test_cells_of_one_acquisition_group_count_once_and_only_after_an_hour():
    labels = labelled([1] * 40, ["run1"] * 40)
    at_once = judge_labels(labels, START + timedelta(minutes=50))
    assert (at_once.units, at_once.open_groups) == (0, 1)
    later = judge_labels(labels, START + timedelta(hours=3))
    assert (later.units, later.open_groups, later.verdict) == (1, 0, "undecided")
    # Hours later, more of the group that counted already changes nothing.
    more = pd.concat([labels, labels.iloc[:5].assign(time=START + timedelta(hours=9), pixel_hash="z", label="c")])
    assert judge_labels(more, START + timedelta(hours=20)).better == later.better


def test_a_later_label_of_a_cell_corrects_the_earlier_one():
    labels = labelled([1, -1]).assign(pixel_hash="same")
    judged = judge_labels(labels, START)
    assert (judged.cells, judged.champion_right, judged.challenger_right) == (1, 1, 0)
