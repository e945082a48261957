"""Pages have the tables that benchmarks of statistical promises write."""

import pytest

from benchmarks import calibration, labels, quality, right_now, verdicts
from benchmarks.tables import Row, fill, table, to_figures
from tests.support.project import ROOT


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (verdicts.PAGE, [f"verdicts:{section}" for section in verdicts.SECTIONS]),
        (right_now.PAGE, [f"now:{section}" for section in right_now.SECTIONS]),
        (calibration.PAGE, ["calibration"]),
        (labels.PAGE, [f"labels:{part}" for part in labels.PARTS]),
        (quality.PAGE, ["quality:junk", "quality:composition", "quality:speed"]),
    ],
)
def test_a_page_has_a_place_for_every_table(page, names, tmp_path):
    copy = tmp_path / page.name
    copy.write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    for _ in range(2):
        fill(copy, dict.fromkeys(names, "A TABLE"))
        assert copy.read_text(encoding="utf-8").count("\nA TABLE\n") == len(names)
    with pytest.raises(ValueError, match="no markers <!-- another -->"):
        fill(copy, {"another": "A TABLE"})


def test_the_page_on_verdicts_has_all_rows_and_nothing_that_was_missed():
    page = (ROOT / verdicts.PAGE).read_text(encoding="utf-8")
    for count in verdicts.COVERAGE_GROUPS:
        assert f"| AUC, {count} groups a class |" in page
    assert "**missed**" not in page


def test_the_page_on_quality_control_has_nothing_that_was_missed():
    page = (ROOT / quality.PAGE).read_text(encoding="utf-8")
    assert "| planted: all (" in page
    assert f"| {quality.TRAINED_GATED} |" in page
    assert "**missed**" not in page


def test_a_table_marks_what_misses_its_bar():
    rows = [
        Row("few", {"coverage": 0.92, "width": 1.2}, {"coverage": ">= 0.93", "width": "<= 1.3"}, {"width": "{:.2f}"}),
        Row("many", {"coverage": 0.95}, {"coverage": ">= 0.93"}),
    ]
    assert table(rows).splitlines() == [
        "|  | coverage | width |",
        "| --- | --- | --- |",
        "| few | 92.0%, **missed** | 1.20 |",
        "| many | 95.0% |  |",
    ]
    assert [figure.holds for figure in to_figures("section", rows)] == [False, True, True]


def test_the_population_is_what_the_page_says(rng):
    population = verdicts.Population(2, 400, verdicts.GAIN)
    before, [after] = population.draw(rng)
    right, right_after = ((places > 0).reshape(-1, verdicts.CELLS) for places in (before, after))
    truth = population.truth()
    assert right.mean() == pytest.approx(truth["accuracy"], abs=0.01)
    assert right_after.mean() - right.mean() == pytest.approx(truth["difference"], abs=0.005)

    def beyond_chance(values):
        """Return the standard deviation of group means, without the chance of their cells."""
        return (values.mean(1).var(ddof=1) - (values.var(1, ddof=1) / verdicts.CELLS).mean()) ** 0.5

    assert beyond_chance(right) == pytest.approx(0.09, abs=0.01)
    assert beyond_chance(right_after.astype(float) - right) == pytest.approx(0.03, abs=0.006)
    assert (right != right_after).mean() == pytest.approx(1 / 8, abs=0.02)
    probabilities = population.probabilities(before)
    assert truth["Brier score"] == pytest.approx(
        (2 * (1 - probabilities.max(1)) ** 2 * (before > 0) + 2 * probabilities.max(1) ** 2 * (before <= 0)).mean(),
        abs=0.01,
    )
