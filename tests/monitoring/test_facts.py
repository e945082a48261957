"""Drift of what files say of the acquisition, without the comparison of images beside it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring import incident_report
from monitoring.drift import _groups
from monitoring.facts import know_facts
from monitoring.findings import MIN_CELLS, Finding, Report
from monitoring.sources import ServedModel
from tests.support.populations import population

CELLS = 40


def cells(runs, seed=0, magnification=20.0, power=0.0, **columns):
    """Draw cells of runs of an instrument whose lamp and flow differ from run to run; `power` is added to the lamp."""
    rng = np.random.default_rng(seed)

    def of_run(mean, spread):
        return np.repeat(rng.normal(mean, spread, runs), CELLS)

    table = pd.DataFrame(
        {
            "group": np.repeat([f"r{i}" for i in range(runs)], CELLS),
            "native_instrument": "IS100-Lab",
            "native_software": "6.0",
            "native_magnification": magnification,
            "native_brightfield_power_w": of_run(0.5, 0.03) + power,
            "native_flow_speed": of_run(40, 0.5) + rng.normal(0, 1, runs * CELLS),
            "native_background_mean": of_run(700, 40) + rng.normal(0, 5, runs * CELLS),
            "native_background_mean_2": of_run(30, 1),
        }
    )
    return table.assign(**columns)


def judge(reference, window):
    """Return statistic → finding of those that are beyond their thresholds."""
    found = [fact.judge(window) for fact in know_facts(reference, _groups)]
    return {finding.statistic: finding for finding in found if finding and finding.drifted}


@pytest.fixture(scope="module")
def known():
    both = [cells(6), cells(6, 1, magnification=60.0)]
    return pd.concat(both, ignore_index=True).assign(group=np.repeat([f"g{i}" for i in range(12)], CELLS))


def test_another_magnification_between_two_known_ones_is_told_in_words(known):
    assert judge(known, cells(2, 7, magnification=60.0)) == {}
    found = judge(known, cells(2, 7, magnification=40.0))
    assert list(found) == ["fact_magnification"]
    assert found["fact_magnification"].words == "magnification 40x, known: 20x, 60x"
    assert found["fact_magnification"].value == 1


def test_another_lamp_power_is_told_with_the_range_of_the_known_runs(known):
    found = judge(known, cells(1, 8, native_brightfield_power_w=0.9))
    assert list(found) == ["fact_brightfield_power_w"]
    low, high = known["native_brightfield_power_w"].min(), known["native_brightfield_power_w"].max()
    assert found["fact_brightfield_power_w"].words == f"brightfield power 0.9 W, known: {low:.4g} to {high:.4g} W"


def test_a_part_of_the_window_is_told_and_a_stray_file_is_not(known):
    window = cells(10, 9)
    window.loc[:2, "native_magnification"] = 40.0
    assert judge(known, window) == {}
    window.loc[:59, "native_magnification"] = 40.0
    found = judge(known, window)
    assert found["fact_magnification"].value == pytest.approx(0.15)
    assert found["fact_magnification"].words == "magnification 40x, known: 20x, 60x"


def test_few_cells_with_a_fact_are_not_judged_by_it(known):
    window = cells(5, 10, magnification=40.0)
    window.loc[MIN_CELLS - 1 :, "native_magnification"] = np.nan
    assert judge(known, window) == {}
    window.loc[MIN_CELLS - 1, "native_magnification"] = 40.0
    assert list(judge(known, window)) == ["fact_magnification"]
    plain = window[["group"]]
    assert [fact.judge(plain) for fact in know_facts(known, _groups)] == [None] * 7


def test_a_reference_without_facts_says_nothing(known):
    assert know_facts(known[["group"]], _groups) == []
    assert know_facts(known[["group"]].assign(native_flow_speed=np.nan), _groups) == []
    assert "fact_magnification" not in judge(known.drop(columns="native_magnification"), cells(2, magnification=40.0))


def test_values_of_runs_that_are_not_among_the_cells_of_the_reference_are_known():
    """A reference has cells of 40 groups at most; data may have thousands."""
    reference = cells(6)
    assert "fact_magnification" in judge(reference, cells(2, magnification=40.0))
    reference.attrs["known_facts"] = {"magnification": [20.0, 40.0], "brightfield_power_w": [0.4, 0.9]}
    assert judge(reference, cells(2, 2, magnification=40.0, native_brightfield_power_w=0.9)) == {}
    assert list(judge(reference, cells(2, 2, native_brightfield_power_w=1.2))) == ["fact_brightfield_power_w"]


def test_what_the_model_does_not_see_raises_no_alarm(known):
    window = cells(2, 11, native_software="7.1", native_background_mean_2=90.0)
    found = judge(known, window)
    assert set(found) == {"fact_software", "fact_background_mean_2"}
    assert {finding.kind for finding in found.values()} == {"acquisition"}
    report = Report(len(window), [*found.values()])
    assert report.input_drift == []
    assert next(finding.words for finding in report.told) == "software 7.1, known: 6.0"
    # A model of two channels sees the second one.
    seen = judge(known.assign(focus=1.0, focus_2=1.0), window)
    assert seen["fact_background_mean_2"].kind == "input"


def test_few_runs_that_are_all_alike_leave_room_for_another(known):
    columns = ["group", "native_magnification", "native_brightfield_power_w"]
    alike = known.assign(native_brightfield_power_w=0.5)[columns]
    for runs in (alike.head(CELLS), alike):
        assert judge(runs, cells(1, native_brightfield_power_w=0.52)) == {}
        found = judge(runs, cells(1, native_brightfield_power_w=0.6))
        assert list(found) == ["fact_brightfield_power_w"]
        assert found["fact_brightfield_power_w"].words == "brightfield power 0.6 W, known: 0.5 W"


def test_numbers_and_texts_of_a_hostile_file_harm_nothing(known):
    text = "<script>alert(1)</script>`rm`\n# x" + "y" * 300
    window = cells(2, 12, native_instrument=text, native_flow_speed=np.inf, native_background_mean=-np.inf)
    found = judge(known, window)
    assert list(found) == ["fact_instrument"], "infinite numbers count as unknown"
    words = found["fact_instrument"].words
    assert not set("<>`\n") & set(words)
    assert len(words) < 120


@pytest.mark.slow
@pytest.mark.parametrize("runs", [4, 24])
def test_runs_like_the_known_ones_hardly_ever_raise_an_alarm(runs):
    """Lamp, flow and background differ from run to run; windows of known runs raise none, and of an unseen run few."""
    alarms = []
    for seed in range(20):
        reference, unseen = cells(runs, seed), cells(10, 1000 + seed)
        facts = [fact for fact in know_facts(reference, _groups) if fact.kind == "input"]
        for _, window in reference.head(4 * CELLS).groupby("group"):
            assert not any(fact.judge(window).drifted for fact in facts), seed
        for _, window in unseen.groupby("group"):
            alarms.append(any(fact.judge(window).drifted for fact in facts))
    # All facts together are out in LEVEL_OF_RUNS of runs, a quarter of a percent: 4 of 200 would be more by far.
    assert np.mean(alarms) <= 0.015


def test_an_operator_reads_at_once_what_the_files_say(known):
    [magnification] = judge(known, cells(2, 7, magnification=40.0)).values()
    lamp = Finding("ks_background", 0.9, 0.3)
    software = replace(magnification, statistic="fact_software", kind="acquisition", words="software 7, known: 6")
    report = Report(80, [lamp, software, magnification])
    model = ServedModel("binary", "fatescope-binary", "3", None, "")
    advice = incident_report.advise(model, report)
    threshold = f"{magnification.threshold:.2f}"
    assert f"`fact_magnification` (1.00, threshold {threshold}), `ks_background` (0.90, threshold 0.30)." in advice
    assert "\n\n- magnification 40x, known: 20x, 60x\n- software 7, known: 6\n\n" in advice
    assert "The files of the cells say" not in incident_report.advise(model, Report(80, [lamp]))
    described = {finding["statistic"]: finding for finding in report.as_dict()["findings"]}
    assert described["fact_magnification"]["words"] == "magnification 40x, known: 20x, 60x"
    assert "words" not in described["ks_background"]
    assert report.as_dict()["drifted"] == ["fact_magnification", "ks_background"]


@pytest.mark.slow
def test_the_page_tells_the_facts_first_and_marks_the_features_that_drifted_alone():
    fact = Finding("fact_background_mean", 1.0, 0.1, words="background of the brightfield 9 counts, known: 7 counts")
    report = Report(200, [Finding("ks_background_spread", 0.9, 0.3), fact])
    model = ServedModel("binary", "fatescope-binary", "3", None, "")
    page = incident_report.to_html(model, report, population(200, 0), population(200, 1))
    assert page.index("<p class=over>background of the brightfield 9 counts, known: 7 counts</p>") < page.index("<svg")
    # Of `background spread`, and neither of `spread`, on which its name ends, nor of `mean`, as that of the fact does.
    assert page.count("fill: #d62728") == 1
