"""The benchmark of few labels: its page, and whether its parts run."""

import json
import shutil

import pytest

from benchmarks import labels
from benchmarks.labels import PAGE, PARTS
from benchmarks.report import MARK
from tests.support.project import ROOT, SHARED


def test_the_page_has_a_place_for_each_part():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for part in PARTS:
        assert text.count(f"<!-- labels:{part} -->") == 1


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_on_few_cells(part, tmp_path, tmp_path_factory, monkeypatch):
    if not (SHARED / "malaria.zip").exists():
        pytest.skip(f"{SHARED} is not on this machine; it has the sets of the benchmark")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    # The parts share the sets that one of them has ingested.
    labels.main(sets=SHARED, part=[part], work=tmp_path_factory.getbasetemp() / "sets", small=True)
    figures = json.loads((tmp_path / "reports/bench/labels.json").read_text(encoding="utf-8"))["figures"]
    assert len(figures) > 3
    for figure in figures:
        assert figure["figure"].startswith(f"[{MARK}] {part}: ")
        assert figure["bar"] is None
