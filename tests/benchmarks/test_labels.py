"""The page of the benchmark of few labels."""

from benchmarks.labels import PAGE, PARTS
from tests.support.project import ROOT


def test_the_page_has_a_place_for_each_part():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for part in PARTS:
        assert text.count(f"<!-- labels:{part} -->") == 1
