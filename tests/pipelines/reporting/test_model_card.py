"""The model card, of the models that the pipeline of the tests made."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from fatescope.data import dataset
from fatescope.data.quality_gate import REASONS
from fatescope.data.quality_table import CellQuality
from fatescope.inference import bundle
from pipelines.evaluation.audit_report import AuditReport, BalancedAccuracy, FactAudit
from pipelines.evaluation.language_report import LANGUAGE, Answered, Difference, Effort, Judged, LanguageReport
from pipelines.evaluation.metrics_report import LowerBound, Score
from pipelines.evaluation.quality_report import GateSample, QualityCounts, QualityReport
from pipelines.evaluation.trust_report import Calls, CallShare
from pipelines.registry.records import Criterion, Verdict, VersionSummary
from pipelines.reporting import model_card
from pipelines.stages import card, evaluate
from tests.support import reports
from tests.support.pipeline import run_register

pytestmark = pytest.mark.slow


@pytest.fixture
def sources(folder):
    reported = folder / "reports/binary"
    return model_card.read_sources(
        folder / "artifacts/binary/bundle",
        dataset.load(folder / "artifacts/cells"),
        reported / "metrics.json",
        folder / "reports/audit.json",
        reported / "card",
    )


def changed(sources, scheme, **values):
    """Return `sources` with other metrics of one scheme."""
    schemes = sources.metrics.schemes | {scheme: sources.metrics.schemes[scheme].model_copy(update=values)}
    return replace(sources, metrics=sources.metrics.model_copy(update={"schemes": schemes}))


def test_the_card(folder, empty_registry):  # noqa: ARG001  the version must not go into the registry of the pipeline
    run_register(folder)
    for path in (folder / "reports/binary/card.md", folder / "reports/binary/registered/card.md"):
        loaded = ModelCard.load(path)
        assert loaded.data.license == "apache-2.0"
        results = loaded.data.eval_results
        values = {(result.dataset_split, result.metric_type): result.metric_value for result in results}
        metrics = json.loads((folder / "reports/binary/metrics.json").read_text())
        expected = metrics["splits"]["grouped"]["balanced_accuracy"]
        assert values["grouped", "balanced_accuracy"] == pytest.approx(expected, abs=1e-4)
        assert not re.search(r"\{\{|\{%|None|nan", loaded.text)
        assert len(re.findall("^## ", loaded.text, re.MULTILINE)) >= 11
        for picture in re.findall(r"\]\((card/[\w.]+)\)", loaded.text):
            assert (path.parent / picture).stat().st_size > 1000
    page = (folder / "reports/binary/card.html").read_text()
    assert page.count("data:image/png;base64") == 9
    assert not re.search(r"""(src|href)=["'](?!data:|https://arxiv)""", page)
    assert "Trained on simulated cells" not in page


def test_the_card_counts_the_cells_outside_the_gates_by_class_and_reason(sources):
    gate = sources.quality.gate
    one = QualityCounts(cells=200, outside=30, reasons=dict.fromkeys(REASONS, 0) | {"focus": 10, "doublet": 25})
    none = QualityCounts(cells=150, outside=0, reasons=dict.fromkeys(REASONS, 0))
    classes = {"astrocyte": one, "oligodendrocyte": none}
    report = QualityReport(excluded=True, gate=gate, total=one, classes=classes, groups={})
    text = model_card.render(replace(sources, quality=report))
    assert "| astrocyte | 200 | 30 (15.0 %) | 10 | 25 | 0 | 0 | 0 |" in text
    assert "| oligodendrocyte | 150 | 0 (0.0 %) | 0 | 0 | 0 | 0 | 0 |" in text
    assert "neither trained nor tested on them" in text
    kept = model_card.render(replace(sources, quality=report.model_copy(update={"excluded": False})))
    assert "trained and tested on them too" in kept
    assert "drawn at random" not in kept
    sample = GateSample(cells=200_000, of=2_000_000, seed=0)
    drawn = model_card.render(replace(sources, quality=report.model_copy(update={"learned_from": sample})))
    assert "learned from 200,000 of the 2,000,000 cells, drawn at random" in drawn
    assert "Quality of the cells" not in model_card.render(replace(sources, quality=None))


def test_the_card_says_from_which_probability_coarse_classes_are_called(sources):
    calls = Calls(
        fine=CallShare(share=0.4, accuracy=0.95),
        coarse=CallShare(share=0.35, accuracy=0.91),
        unsure=CallShare(share=0.24, accuracy=None),
        unlike=CallShare(share=0.01, accuracy=None),
    )
    scheme = sources.spec.split
    trust = sources.metrics.schemes[scheme].trust.model_copy(update={"calls": calls})
    joined = {"neuron": ["RA/SHH", "NT3"], "glia": ["astrocyte", "oligodendrocyte"]}

    def render(thresholds):
        spec = sources.spec.model_copy(update={"hierarchy": joined, "coarse_thresholds": thresholds})
        return model_card.render(replace(changed(sources, scheme, trust=trust), spec=spec))

    assert "neuron (RA/SHH, NT3), glia (astrocyte, oligodendrocyte)" in render(None)
    assert "where that has all classes of the conformal set" in render(None)
    text = render({"neuron": 0.65})
    assert "from a probability of 65.0 % (neuron), never (glia)" in text
    assert "at which 90.0 % of such calls of cells not seen in training are right, with a margin for chance" in text
    assert "no more than 10.0 % of each other class" in text
    assert "(astrocyte, oligodendrocyte).\n\n| answer |" in text
    assert "| a coarse class | 35.0 % | 91.0 % |" in text


def test_the_bundle_has_the_gates_that_the_stage_quality_learned(folder):
    spec = bundle.read_spec(folder / "artifacts/binary/bundle")
    assert spec.quality == CellQuality.load(folder / "artifacts/quality.parquet").gate
    assert spec.params["quality"] == {"exclude": False, "loss": 0.02, "limits": {}}


def test_a_card_of_simulated_cells_begins_with_that(sources):
    spec = sources.spec.model_copy(update={"simulated": True, "confounded": {"astrocyte": "1 group, 3 needed"}})
    text = model_card.render(replace(sources, spec=spec))
    assert text.startswith("> **Trained on simulated cells.**")
    assert "confounded: 1 group, 3 needed" in text


def test_a_card_says_which_instrument_recorded_the_cells_and_what_its_files_alone_predict(sources):
    assert "which one: missing" in model_card.render(sources)
    cells = sources.cells.assign(native_instrument="IS100", native_magnification=60.0, native_flow_speed=44.0)
    accuracy = BalancedAccuracy(value=0.91, low=0.8, high=0.97, chance=0.5)
    fact = FactAudit(kind="number", known=1.0, distinct=9, accuracy={"grouped": accuracy})
    audit = sources.audit.model_copy(update={"facts": {"flow_speed": fact}})
    text = model_card.render(replace(sources, cells=cells, audit=audit))
    assert "| Instrument | the one that recorded the training data: IS100 at 60x |" in text
    assert "| Flow speed, mm/s | 44 | 0.910 (0.800 to 0.970; chance 0.500) |" in text
    assert "| Magnification | 60 | the same for all |" in text


def test_a_card_says_where_there_is_no_interval_and_why(sources):
    reason = "2 acquisition groups of class astrocyte; three are needed"
    grouped = sources.metrics.schemes["grouped"]
    known = changed(sources, "grouped", intervals={name: [0.81, 0.93] for name in grouped.intervals}, no_interval={})
    text = model_card.render(changed(known, "grouped", rough=False))
    assert "(95 % interval 0.810 to 0.930) on" in text
    assert "On the grouped split some class has few test groups" not in text
    without = {"intervals": dict.fromkeys(grouped.intervals), "no_interval": dict.fromkeys(grouped.intervals, reason)}
    text = model_card.render(changed(sources, "grouped", rough=True, **without))
    assert f"Balanced accuracy **{grouped.balanced_accuracy:.3f}** (no interval: {reason}) on" in text
    assert f"| Macro F1 | {grouped.macro_f1:.3f} (no interval: {reason}) |" in text
    assert f"| Evaluation: confidence | no interval: {reason};" in text
    assert "**On the grouped split some class has few test groups: what is known of other groups is little.**" in text


def test_a_card_shows_who_signed_a_shortcut_off(sources):
    detail = (
        "shortcut: acquisition alone tells apart a / b; signed off by Ada Example: one lamp for all media since May"
    )
    verdict = Verdict(
        task="binary",
        model="fatescope-binary",
        version="7",
        criteria={"audit": Criterion(holds=True, verdict="shortcut", detail=detail)},
        champion=True,
        replaced=None,
        compared=None,
    )
    earlier = VersionSummary("6", "2026-05-01 12:00", "0.9000", "champion", "rolled back by Ada on 2026-05-02: debris")
    text = model_card.render(replace(sources, gate=verdict, history=(earlier,)))
    assert f"> **Relies on a shortcut of the acquisition.** {detail}" in text
    assert "version 7" in text
    assert "| 6 | 2026-05-01 12:00 | 0.9000 | champion | rolled back by Ada on 2026-05-02: debris |" in text


def test_a_card_shows_the_evidence_against_a_pair_of_classes(sources):
    report = AuditReport.read(reports.AUDIT)
    evidence = report.pairs[0].raw.model_copy(
        update={"description": "border", "value": 0.97, "low": 0.95, "high": 0.99}
    )
    pair = report.pairs[0].model_copy(update={"verdict": "shortcut", "raw": evidence})
    text = model_card.render(replace(sources, audit=report.model_copy(update={"pairs": [pair]})))
    assert (
        "- astrocyte / oligodendrocyte: shortcut; after normalisation, which is what the network sees: clean." in text
    )
    assert "linear on `border`, AUC 0.970 (0.950 to 0.990)" in text


def test_the_labels_are_explained_and_every_group_has_its_row(sources):
    text = model_card.render(sources)
    assert "medium in which a cell was grown" in text
    for name, group in sources.metrics.schemes["grouped"].by["group"].items():
        assert f"| {name} | {group.cells} | {group.accuracy:.3f} |" in text


def test_a_card_of_labels_that_are_no_media_does_not_mention_media(sources):
    params = sources.spec.params | {"dataset": sources.spec.params["dataset"] | {"label": "phase"}}
    text = model_card.render(replace(sources, spec=sources.spec.model_copy(update={"params": params})))
    assert "value of `phase` in the path of the cell's file" in text
    assert "medium" not in text.split("## Results")[0]


def test_a_name_may_have_characters_of_markdown_and_html(sources):
    named = replace(sources, cells=sources.cells.assign(group="a|b <i>"))
    page = model_card.to_html(model_card.render(named), named.pictures, "card")
    assert page.count("<td>a|b &lt;i&gt;</td>") == len(model_card.tabulate_groups(named.cells, {})) == 2


def test_the_bioimage_io_package_passes_its_own_test(folder):
    # In a process of its own, because it leaves files open.
    program = "import sys, bioimageio.core as core; sys.exit(core.test_model(sys.argv[1]).status != 'passed')"
    command = [sys.executable, "-c", program, str(folder / "reports/binary/bioimageio.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_card_shows_what_other_instruments_do(sources):
    robustness = sources.metrics.schemes["grouped"].robustness
    assert list(robustness.shifted) == ["focus", "noise", "gain", "illumination", "pixel size"]
    assert all(0 <= value <= 1 for value in robustness.shifted.values())
    shifted = robustness.model_copy(update={"shifted": robustness.shifted | {"gain": 0.1234}, "balanced_accuracy": 0.9})
    text = model_card.render(changed(sources, "grouped", robustness=shifted))
    assert "| gain | 0.123 |" in text
    assert "with another gain its balanced accuracy is 12.3 % in place of 90.0 %" in text
    earlier = model_card.render(changed(sources, "grouped", robustness=None))
    assert "instrument" not in earlier.split("### By acquisition group")[1].split("## DOME")[0]


def test_a_vision_language_model_stands_on_the_card_beside_this_model_alone(sources, folder, tmp_path, caplog):
    served = sources.metrics.schemes["grouped"]
    judged = Judged(
        score=Score(**{name: getattr(served, name) for name in Score.model_fields}),
        intervals={"balanced_accuracy": [0.4, 0.7]},
        no_interval={},
        lower_bound=LowerBound(value=0.4, units="groups"),
        calibration=served.calibration.after,
        gain={"chance": 0.05},
    )
    report = LanguageReport(
        task="binary",
        scheme="grouped",
        classes=sources.spec.classes,
        simulated=False,
        cells=served.cells,
        groups=served.groups,
        language=judged.model_copy(
            update={"intervals": {"balanced_accuracy": None}, "no_interval": {"balanced_accuracy": "few"}}
        ),
        cnn=judged,
        difference=Difference(value=-0.25, low=-0.4, high=-0.1, units="groups"),
        answers={"focus": Answered(parsed=0.5, contradicted=0.25, right=0.125, size_error=None)},
        effort=Effort(tokens_in=1234.5, tokens_out=60, seconds=0.25, cost=None, questions=8),
    )
    text = model_card.render(replace(sources, language=report))
    assert "(0.400 to 0.700)" in text
    assert "(no interval: few)" in text
    assert "-0.250 (-0.400 to -0.100)" in text
    assert "| focus | 50.0 % | 25.0 % | 12.5 % |" in text
    assert "vision-language" not in model_card.render(sources)

    reported, bundle_folder = folder / "reports/binary/metrics.json", folder / "artifacts/binary/bundle"
    report.write(tmp_path / LANGUAGE)
    (tmp_path / "card").mkdir()
    card.copy_language(tmp_path / LANGUAGE, reported, bundle_folder, tmp_path / "card")
    assert LanguageReport.read(tmp_path / "card" / LANGUAGE) == report
    caplog.set_level("INFO")
    evaluate.show_language(tmp_path / LANGUAGE, "grouped", served)
    assert f"| vision-language model | {served.balanced_accuracy:.3f} (no interval: few) |" in caplog.text
    assert "-0.250 from that of the CNN (-0.400 to -0.100)" in caplog.text
    caplog.clear()
    evaluate.show_language(tmp_path / "missing.json", "grouped", served)
    assert not caplog.text
    other = judged.model_copy(update={"score": judged.score.model_copy(update={"confusion": [[1, 0], [0, 1]]})})
    report.model_copy(update={"cnn": other}).write(tmp_path / LANGUAGE)
    (tmp_path / "card" / LANGUAGE).unlink()
    card.copy_language(tmp_path / LANGUAGE, reported, bundle_folder, tmp_path / "card")
    assert not (tmp_path / "card" / LANGUAGE).exists()
    assert "beside another model, and so not shown" in caplog.text
    caplog.clear()
    evaluate.show_language(tmp_path / LANGUAGE, "grouped", served)
    assert "beside another model" in caplog.text
    assert "vision-language model |" not in caplog.text
