"""Reports keep the fields, the order and the format that they had before they became typed."""

import json

import pytest
from pydantic import ValidationError

from fatescope.errors import DataError
from pipelines.evaluation.audit_report import AuditReport
from pipelines.evaluation.metrics_report import CandidateMetrics, Metrics
from pipelines.registry.records import Verdict
from tests.support import reports

REPORTS = [(AuditReport, reports.AUDIT), (Metrics, reports.METRICS), (Verdict, reports.GATE)]


def keys(content, path=()):
    """Return the path of every key of nested objects, in order."""
    found = []
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += keys(value, (*path, key))
    return found


@pytest.mark.parametrize(("report", "path"), REPORTS)
def test_a_report_of_before_is_read_and_written_to_the_byte(report, path, tmp_path):
    report.read(path).write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "name"), [(reports.AUDIT, "audit.json"), (reports.METRICS, "binary/metrics.json")])
def test_the_pipeline_writes_the_keys_of_before(folder, path, name):
    before, now = (json.loads(each.read_text()) for each in (path, folder / "reports" / name))
    # Added since, and without the ends of intervals: there are none below three test groups.
    added = ("no_interval", "lower_bound", "by_group", "debiased", "facts", "channels", "robustness", "maps")
    ends = ("intervals",)
    found, expected = (
        [key for key in keys(content) if not set(key) & set(added) and not (set(key) & set(ends) and key[-1] in (0, 1))]
        for content in (now, before)
    )
    # Which groups are for the test, and so their days and runs, is another matter.
    assert list(dict.fromkeys(map(without_group, found))) == list(dict.fromkeys(map(without_group, expected)))


@pytest.mark.slow
def test_the_pipeline_tries_the_maps_of_its_models_and_the_card_says_how_they_did(folder):
    metrics = Metrics.read(folder / "reports/binary/metrics.json")
    card = (folder / "reports/binary/card.md").read_text()
    for scheme in metrics.schemes.values():
        assert scheme.maps.cells > 0
        assert scheme.maps.positions == (5, 7)
        assert 0 < scheme.maps.deletion < 1
    first = next(iter(metrics.schemes.values()))
    assert first.maps.conclusion() in card


def without_group(key):
    return (*key[:4], "", *key[5:]) if key[2:3] == ("by",) and len(key) > 4 else key


def test_a_file_that_is_no_report_is_refused(tmp_path):
    content = json.loads(reports.METRICS.read_text())
    for text in ("{}", "not JSON", json.dumps(content | {"unheard_of": 1})):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(DataError, match=r"metrics\.json: not a report of this version"):
            Metrics.read(tmp_path / "metrics.json")
    with pytest.raises(DataError, match=r"absent\.json: not a report"):
        Metrics.read(tmp_path / "absent.json")


def test_energy_is_in_the_report_where_it_was_measured():
    [candidate] = json.loads(reports.METRICS.read_text())["candidates"].values()
    for content in (candidate, candidate | {"energy_wh": 1.5}):
        assert CandidateMetrics.model_validate(content).model_dump() == content


def test_a_report_does_not_change():
    report = AuditReport.read(reports.AUDIT)
    with pytest.raises(ValidationError, match="frozen"):
        report.cells = 1
    assert report.summarise(["astrocyte", "oligodendrocyte"]).verdict == "clean"
    assert report.summarise(["astrocyte", "NT3"]).verdict == "unknown"


def test_a_verdict_of_later_code_is_read():
    """Verdicts are tags of versions, and a registry may have versions of newer code."""
    content = json.loads(reports.GATE.read_text())
    content["criteria"]["audit"]["strength"] = 0.3
    assert Verdict.model_validate(content | {"unheard_of": 1}).criteria["audit"].holds
