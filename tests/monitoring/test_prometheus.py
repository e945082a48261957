"""The rules that ship with the project, by Prometheus' own tool."""

import json
import re
import shutil
import subprocess

import pytest

from tests.support.project import ROOT

FOLDER = ROOT / "monitoring" / "prometheus"


def promtool(*arguments):
    tool = shutil.which("promtool")
    if not tool:
        pytest.skip("no promtool on this machine; install it to test the alerts (Debian: apt install prometheus)")
    done = subprocess.run([tool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_valid():
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "rules.yml")


@pytest.mark.slow
def test_alerts_fire_when_they_should_and_only_then():
    promtool("test", "rules", "tests.yml")


def test_every_alert_has_its_line_in_the_runbook_and_a_test():
    alerts = re.findall(r"alert: (\w+)", (FOLDER / "rules.yml").read_text())
    lines = re.findall(r"^## (\w+)$", (ROOT / "docs/how-to/respond-to-alerts.md").read_text(), re.MULTILINE)
    assert sorted(alerts) == sorted(lines)
    linked = re.findall(r"runbook: docs/how-to/respond-to-alerts.md#(\w+)", (FOLDER / "rules.yml").read_text())
    assert linked == [each.lower() for each in alerts]
    tested = set(re.findall(r"alertname: (\w+)", (FOLDER / "tests.yml").read_text()))
    assert tested == set(alerts)


DASHBOARD = FOLDER.parent / "grafana" / "dashboards" / "fatescope.json"


@pytest.mark.parametrize("path", [FOLDER / "rules.yml", DASHBOARD])
def test_rules_and_board_ask_for_metrics_that_exist(path):
    text = path.read_text()
    if path == DASHBOARD:
        text = " ".join(target["expr"] + " " for panel in json.loads(text)["panels"] for target in panel["targets"])
    asked = set(re.findall(r"(?<![:\w])(fatescope_\w+?)(?:_total|_bucket|_sum|_count)?(?=[\[{\s)])", text))
    assert len(asked) > 5
    made = set()
    for source in (
        "service/inference/metrics.py",
        "service/shadow/metrics.py",
        "monitoring/exporter.py",
        "monitoring/accuracy_metrics.py",
        "monitoring/alert_receiver.py",
    ):
        made |= set(re.findall(r'"(fatescope_\w+)"', (ROOT / source).read_text()))
    assert asked <= made, asked - made
    recorded = set(re.findall(r"record: (\S+)", (FOLDER / "rules.yml").read_text()))
    assert set(re.findall(r"\b\w+:fatescope_\w+:\w+", text)) <= recorded


def test_the_board_shows_what_a_thousand_cells_take():
    recorded = set(re.findall(r"record: (\S+:per_1000_cells_1h)", (FOLDER / "rules.yml").read_text()))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = {target["expr"] for panel in panels for target in panel["targets"]}
    assert len(recorded) == 3
    assert recorded <= shown, recorded - shown


def test_panels_of_the_board_have_their_own_number_and_place():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
