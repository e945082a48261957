"""The comparison of stages at two sizes, and the time of the audit, run at all."""

import json
from pathlib import Path

import pytest

from benchmarks import scale, scale_audit, scale_cells, scale_stages
from benchmarks.report import Figure
from fatescope.errors import FatescopeError

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale") / "drawn"
    scale_cells.draw(folder, 240)
    return folder


def test_stages_are_compared_at_two_sizes(drawn):
    figures = scale_stages.compare(drawn, (240, 600), ["ingest", "split"])
    assert [figure.figure for figure in figures if figure.bar] == [
        f"{stage}: peak memory at 600 over 240 cells" for stage in ("ingest", "split")
    ]
    assert all(figure.value > 0 for figure in figures)


def test_a_stage_that_fails_says_why(drawn):
    # There is nothing to evaluate.
    with pytest.raises(FatescopeError, match=r"the stage evaluate failed on 240 cells:\n(.*\n)*.*splits.parquet"):
        scale_stages.compare(drawn, (240, 480), ["evaluate"])


def test_the_stages_are_those_of_the_flow():
    assert scale_stages.all_stages()[0] == "ingest"
    assert scale_stages.all_stages()[-1] == "register"
    assert len(scale_stages.all_stages()) == 10


def test_the_audit_is_timed():
    seconds, pairs = scale_audit.figures(270, 3)
    assert (seconds.bar, pairs.value) == ("<= 60", 3)
    assert seconds.value > 0


def test_each_part_fills_its_table_of_the_page(monkeypatch, tmp_path):
    figures = [Figure("memory", 1.5, "<= 1.3"), Figure("cells a second", 12_345.6)]
    page = tmp_path / scale.PAGE
    page.parent.mkdir(parents=True)
    page.write_text((ROOT / scale.PAGE).read_text())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr(scale_audit, "figures", lambda: figures)
    scale.main(part=["audit"])
    scale.main(part=["audit"])
    assert "| memory | 1.50 | <= 1.3, **missed** |\n| cells a second | 12,345.60 |  |" in page.read_text()
    kept = json.loads((tmp_path / "reports/bench/scale.json").read_text())["figures"]
    assert [figure["figure"] for figure in kept] == ["audit: memory", "audit: cells a second"]


def test_an_unknown_part_is_refused():
    with pytest.raises(FatescopeError, match="no part pages; there are cells, audit, stages"):
        scale.main(part=["pages"])
