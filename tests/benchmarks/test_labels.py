"""Each part of the benchmark of few labels, on a fraction of the cells."""

import math

import pytest

from benchmarks.few_labels.sets import Sets
from benchmarks.labels import PAGE, PARTS
from tests.support.project import ROOT, SHARED


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    if not (SHARED / "malaria.zip").exists():
        pytest.skip(f"the real images are not here: {SHARED}")
    return Sets(SHARED, tmp_path_factory.mktemp("sets"), small=True)


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_part_measures_and_names_its_bars(sets, part, monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = PARTS[part](sets)
    assert rows
    values = [value for row in rows for value in row.values.values()]
    assert all(math.isfinite(value) for value in values)
    assert len({row.name for row in rows}) == len(rows)
    assert all(set(row.bars) <= set(row.values) for row in rows)


def test_the_page_has_a_place_for_each_part():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for part in PARTS:
        assert text.count(f"<!-- labels:{part} -->") == 1
