"""Metrics, tables and plots of a model whose predictions are made up; `test_pipeline` evaluates real models."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fatescope.data import table_parts
from fatescope.data.dataset import CellDataset
from fatescope.data.tracks import Tracks
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation import curves, evaluated_model, metrics_report
from pipelines.evaluation.metrics_report import CompositionMetrics
from pipelines.evaluation.scheme_evaluation import SchemeEvaluation
from pipelines.stages import evaluate
from tests.support.project import copied, run

CLASSES = ["G1", "G2"]
COMPOSITION = CompositionMetrics(mean_error=0.1, mean_error_of_counting=0.2, interval_coverage=0.95, interval_width=0.3)


def evaluated_cells(rng, scheme, groups):
    """Return a model of accuracy 0.75 and the manifest of its test cells; `groups` begin with their class."""
    targets = np.array([CLASSES.index(name[:2]) for name in groups])
    correct = rng.random(len(groups)) < 0.75
    first = np.where(correct == (targets == 0), 0.8, 0.2)
    probabilities = np.stack([first, 1 - first], 1).astype(np.float32)
    assessment = Assessment(
        probabilities, np.ones((len(groups), 2), bool), np.full(len(groups), 0.5, np.float32),
        np.full(len(groups), "unsure"),
    )  # fmt: skip
    spec = SimpleNamespace(
        task="phase",
        classes=CLASSES,
        split=scheme,
        prior=[0.5, 0.5],
        simulated=False,
        hierarchy={},
        tracks=None,
        coarse_thresholds=None,
    )
    facts = {"medium": "x", "day": "1", "run": "1"}
    manifest = pd.DataFrame({"cell_id": groups, "label": np.array(CLASSES)[targets], "group": groups, **facts})
    model = SimpleNamespace(spec=spec)
    rows = np.arange(len(groups))
    return evaluated_model.EvaluatedModel(model, rows, targets, assessment, probabilities), manifest


@pytest.mark.parametrize(
    ("scheme", "groups", "expected"),
    [
        ("grouped", 6, ("groups", False, None)),
        ("random", 6, ("groups", False, None)),
        ("random", 3, ("groups", True, None)),
        ("grouped", 2, ("groups", True, "2 acquisition groups of class G2; three are needed")),
        # One montage of a class: effects of the montage and of the class are confounded.
        ("random", 1, ("cells", True, "1 acquisition group of class G2; three are needed")),
    ],
)
def test_intervals_are_of_groups_under_every_scheme_and_none_below_three(
    rng, params, tmp_path, scheme, groups, expected
):
    units, rough, reason = expected
    names = [f"G1{i % 6}" for i in range(300)] + [f"G2{i % groups}" for i in range(300)]
    metrics = evaluated_model.measure(*evaluated_cells(rng, scheme, names), None, COMPOSITION, params)
    assert (metrics.resampled, metrics.rough, metrics.lower_bound.units) == ("groups", rough, units)
    assert metrics.groups == 6 + groups
    assert metrics.at_least().value < metrics.balanced_accuracy
    if reason is None:
        low, high = metrics.intervals["balanced_accuracy"]
        assert low < metrics.balanced_accuracy < high
        assert metrics.at_least().value == low
        assert metrics.describe_interval("balanced_accuracy") == f"({low:.3f} to {high:.3f})"
    else:
        assert set(metrics.intervals.values()) == {None}
        assert metrics.no_interval == dict.fromkeys(metrics.intervals, reason)
        assert metrics.describe_interval("auc.G1") == f"(no interval: {reason})"
    assert metrics.gain == {}
    metrics.write(tmp_path / "metrics.json")
    assert metrics_report.SchemeMetrics.read(tmp_path / "metrics.json") == metrics


def test_images_of_one_cell_make_a_bound_no_surer(rng, params):
    """In one group of a class, cells are left out in turn: all images of each, which err together."""
    evaluated, manifest = evaluated_cells(rng, "grouped", [f"G1{i % 6}" for i in range(300)] + ["G20"] * 300)
    often = np.repeat(np.arange(600), 4)
    assessment = evaluated.assessment
    images = dataclasses.replace(
        evaluated,
        rows=np.arange(2400),
        targets=evaluated.targets[often],
        assessment=Assessment(*(getattr(assessment, field.name)[often] for field in dataclasses.fields(Assessment))),
        uncalibrated=evaluated.uncalibrated[often],
    )
    followed = Tracks(often, np.zeros(2400))
    once, four, known = (
        evaluated_model.measure(cells, facts, None, COMPOSITION, params, of_cells).lower_bound.value
        for cells, facts, of_cells in (
            (evaluated, manifest, None),
            (images, manifest.iloc[often], None),
            (images, manifest.iloc[often], followed),
        )
    )
    assert known == pytest.approx(once, abs=0.01)
    assert four > once + 0.01


def test_predictions_are_written_a_part_at_a_time(rng, tmp_path, monkeypatch):
    schemes, whole = {}, list[pd.DataFrame]()
    for scheme in ("grouped", "random"):
        evaluated, manifest = evaluated_cells(rng, scheme, [f"G{1 + i % 2}{i % 6}" for i in range(50)])
        manifest["cell_id"] = [f"cell {i}" for i in range(50)]
        # Every second cell of the table is of the scheme.
        evaluated = dataclasses.replace(evaluated, rows=np.arange(50) * 2)
        schemes[scheme] = SchemeEvaluation(evaluated, manifest, None, {}, None)
        expected = manifest[["cell_id", "label", "group"]].assign(
            split=scheme, predicted=np.array(CLASSES)[evaluated.predicted], p_G1=evaluated.probabilities[:, 0]
        )
        whole.append(expected)
    source = CellDataset(manifest.loc[np.repeat(np.arange(50), 2)].reset_index(drop=True), np.zeros((100, 1, 1)))
    monkeypatch.setattr(table_parts, "PART", 13)
    evaluate.write_predictions(schemes, source, tmp_path / "predictions.parquet")
    assert pq.ParquetFile(tmp_path / "predictions.parquet").num_row_groups == 16
    written = pd.read_parquet(tmp_path / "predictions.parquet")
    names = ["split", "cell_id", "label", "group", "predicted", "verdict", "distance", "p_G1", "p_G2"]
    assert written.columns.tolist() == names
    together = pd.concat(whole, ignore_index=True)
    pd.testing.assert_frame_equal(written[together.columns], together)


def test_what_dvc_draws(rng, params, tmp_path):
    """One line a class, before and after calibration apart, and the cells of the two schemes in panels of their own."""
    project, groups = copied(tmp_path / "project"), [f"G{1 + i % 2}{i % 6}" for i in range(400)]
    tables = project / "reports/binary/tables"
    by_scheme = {
        scheme: curves.tabulate(evaluated_cells(rng, scheme, groups)[0], 5) for scheme in ("grouped", "random")
    }
    curves.write_tables(by_scheme, tables)
    metrics = evaluated_model.measure(*evaluated_cells(rng, "grouped", groups), None, COMPOSITION, params)
    content = {"splits": {"grouped": metrics.model_dump()}}
    (project / "reports/binary/metrics.json").write_text(json.dumps(content))

    run(project, "dvc", "plots", "show", "-o", "drawn")
    page = (project / "drawn/index.html").read_text()
    specs = [json.loads(match) for match in re.findall(r"var spec = (.*);$", page, re.MULTILINE)]
    specs = [spec for spec in specs if spec]  # empty for the task that has no tables
    assert "<DVC_METRIC" not in page
    shown = {}
    for spec in specs:
        drawn = spec.get("spec", spec)
        layers = [layer for layer in drawn.get("layer", [drawn]) if "color" in layer["encoding"]]
        facets = {facet["field"] for facet in spec.get("facet", {}).values()}
        fields = {layers[0]["encoding"]["color"]["field"], *facets}
        assert {row["split"] for row in spec["data"]["values"]} == {"grouped", "random"}
        shown[spec["title"]["text"]] = fields
    assert shown == {
        "binary: ROC by class": {"class", "split"},
        "binary: reliability": {"when", "split"},
        "binary: risk by coverage": {"split"},
        "binary: confusion": {"share", "split", "rev"},
    }
    printed = json.loads(run(project, "dvc", "metrics", "show", "--json"))
    assert printed[""]["data"]["reports/binary/metrics.json"]["data"]["splits"]["grouped"]["groups"] == 6
