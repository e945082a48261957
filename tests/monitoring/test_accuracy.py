"""How right a model is now: when it is estimated, when not, and when labels raise the alarm."""

import json

import numpy as np
import pandas as pd
import pytest

from fatescope.data import corrections
from fatescope.inference import label_queue
from fatescope.inference.accuracy import Error
from fatescope.inference.labels import append_labels
from fatescope.inference.reference import ACCURACY
from monitoring import accuracy
from monitoring.accuracy import AccuracyWatch, describe
from monitoring.findings import Finding, Report

PRIOR = (0.5, 0.5)
LIKE = Report(500, [Finding("ks_focus", 0.1, 0.2)])
DRIFTED = Report(500, [Finding("ks_focus", 0.4, 0.2)])


def table(size, seed, skill=1.7, groups=4):
    """Draw cells as a reference or the prediction log has them; `labels` are right `skill` well."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, size)
    places = 1.7 * rng.normal(skill * (2 * targets - 1) / np.sqrt(2), 1) * np.sqrt(2)
    second = 1 / (1 + np.exp(-places))
    return pd.DataFrame(
        {
            "p_a": 1 - second,
            "p_b": second,
            "truth": np.array(["a", "b"])[targets],
            "label": np.array(["a", "b"])[(second > 0.5).astype(int)],
            "group": [
                f"{target}{number}" for target, number in zip(targets, rng.integers(0, groups, size), strict=True)
            ],
            "verdict": "sure",
        }
    )


def reference(**how):
    found = table(1200, 0, **how)
    return found.assign(label=found["truth"], seen=False)


def right(window):
    correct = window["label"] == window["truth"]
    return correct.groupby(window["truth"]).mean().mean()


def test_the_estimate_of_like_cells_is_near_the_truth_and_its_interval_holds_it():
    window = table(500, 1)
    found = AccuracyWatch.of(reference(), PRIOR).estimate(window, LIKE)
    assert found.estimate.value == pytest.approx(right(window), abs=0.04)
    assert found.estimate.low <= right(window) <= found.estimate.high
    assert describe(found).startswith("Estimated balanced accuracy, without labels: 0.8")


@pytest.mark.parametrize(
    ("window", "report", "reason", "words"),
    [
        (table(500, 1), DRIFTED, accuracy.DRIFT, "(ks_focus)"),
        (table(99, 1), LIKE, accuracy.FEW_CELLS, "99 cells like the training cells; 100 are needed"),
        (table(500, 1).assign(verdict=["unlike_training"] * 60 + ["sure"] * 440), LIKE, accuracy.UNLIKE_CELLS, "12%"),
        (pd.DataFrame(), None, accuracy.FEW_CELLS, "0 cells"),
    ],
)
def test_cells_unlike_those_of_the_calibration_are_not_estimated_and_the_reason_is_told(window, report, reason, words):
    found = AccuracyWatch.of(reference(), PRIOR).estimate(window, report)
    assert (found.estimate, found.reason) == (None, reason)
    assert words in describe(found)


def test_too_few_groups_or_an_unknown_mixture_give_no_estimate():
    few = AccuracyWatch.of(reference(groups=2), PRIOR)
    assert few.estimate(table(500, 1), LIKE).reason == accuracy.FEW_GROUPS
    assert few.floor is None
    assert AccuracyWatch.of(reference(), None).estimate(table(500, 1), LIKE).reason == accuracy.NO_PRIOR


def test_what_cross_fitting_has_learnt_comes_before_what_the_reference_shows():
    known = reference()
    known.attrs[ACCURACY] = {"bias": 0.1, "variance": 0.01, "groups": 9}
    assert AccuracyWatch.of(known, PRIOR).error == Error(0.1, 0.01, 9)


def test_the_floor_is_below_what_the_model_has_shown_or_as_it_is_set():
    watch = AccuracyWatch.of(reference(), PRIOR)
    assert right(reference().assign(label=table(1200, 0)["label"])) - 0.1 < watch.floor < right(table(1200, 0))
    assert AccuracyWatch.of(reference(), PRIOR, 0.7).floor == 0.7


@pytest.mark.parametrize(("skill", "alarm"), [(1.7, False), (0.6, True)])
def test_labels_raise_the_alarm_where_the_model_has_got_worse(tmp_path, skill, alarm):
    """Labels come late, by another process, when the prediction log is gone."""
    watch = AccuracyWatch.of(reference(), PRIOR)
    for number in range(3):
        recorded = table(200, 10 + number, skill)
        records = recorded.drop(columns=["truth", "group"]).assign(
            request_id=f"r{number}", cell=np.arange(200), image_hash=np.arange(200) + 1000 * number,
            time=pd.Timestamp("2026-11-24", tz="UTC").as_unit("us") + pd.Timedelta(number, "h"),
        )  # fmt: skip
        path = tmp_path / "records" / "binary" / f"20261124T0{number}0000-3-1-{number}-1a2b3c4d.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        label_queue.write_table(records, path)
        batch = label_queue.draw_batch(
            tmp_path / "records", "binary", "3", np.array(PRIOR), rng=np.random.default_rng(number)
        )
        path.unlink()
        told = recorded["truth"].to_numpy()[[int(cell.partition("-")[2]) for cell in batch.rows["cell"]]]
        append_labels(tmp_path / "feedback", "binary", zip(batch.rows["cell"], told, strict=True))
    found = watch.from_labels(tmp_path / "records", tmp_path / "feedback", "binary", "3", like=not alarm)
    assert (found.labels, found.waiting, found.disputed) == (300, 0, 0)
    with corrections.locked(tmp_path / "feedback") as file:
        for cell, label in zip(batch.rows["cell"], told, strict=True):
            other = next(name for name in watch.classes if name != label)
            file.write(json.dumps({"task": "binary", "by": "bob", "cell": cell, "label": other}) + "\n")
    again = watch.from_labels(tmp_path / "records", tmp_path / "feedback", "binary", "3", like=not alarm)
    assert (again.disputed, again.labels, again.evidence) == (100, found.labels, found.evidence)
    assert (again.estimate.low, again.estimate.high) == (found.estimate.low, found.estimate.high)
    assert "Of 100 cells people say different things" in accuracy.describe_labels(again, watch.floor)
    assert (found.evidence >= 1) == alarm
    assert found.estimate.low <= right(recorded) <= found.estimate.high
    assert (found.combined is None) == alarm
    assert ("; it is less (" in accuracy.describe_labels(found, watch.floor)) == alarm


def test_before_cells_are_drawn_labels_say_nothing(tmp_path):
    assert AccuracyWatch.of(reference(), PRIOR).from_labels(tmp_path, tmp_path, "binary", "3") is None
