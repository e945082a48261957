"""`fatescope language`: from cells to a report beside the CNN."""

import json

import numpy as np
import pytest

from fatescope.inference import bundle
from pipelines.stages import ingest, split
from tests.support.bundles import copy_bundle
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES


@pytest.mark.slow
def test_pairs_a_tiny_model_its_training_and_its_report(fatescope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = write_params(tmp_path, CHANGES | {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]}})
    write_export(tmp_path / "data", np.random.default_rng(0), runs=(1, 2, 3, 4))
    ingest.main(params, tmp_path / "data", tmp_path / "artifacts/cells")
    split.main(params, tmp_path / "artifacts/cells", tmp_path / "artifacts/splits.parquet")
    copy_bundle(tmp_path / "artifacts/binary/bundle", "binary")
    spec = bundle.load(tmp_path / "artifacts/binary/bundle", 1).spec
    assert (sorted(spec.classes), spec.split) == (["astrocyte", "oligodendrocyte"], "grouped")

    assert fatescope("language", "data", "binary", "pairs", "--pixel-size-um", "0.5").code == 0
    assert "um across" in (tmp_path / "pairs/train.jsonl").read_text()
    assert fatescope("language", "tiny", "pairs", "--out", "tiny").output == "written to tiny\n"
    refused = fatescope("language", "train", "tiny", "pairs", "--out", "tuned", "--how", "some")
    assert (refused.code, refused.errors) == (
        1,
        "error: 'some' is no way of tuning; name one of projection, lora, all\n",
    )
    trained = fatescope("language", "train", "tiny", "pairs", "--out", "tuned", "--how", "projection", "--epochs", "1")
    assert trained.output.startswith("epoch 1: loss ")
    assert trained.output.endswith("written to tuned\n")

    result = fatescope("language", "evaluate", "tuned", "pairs", "--examples", "1", "--json")
    assert result.code == 0, result.errors
    report = json.loads(result.output)
    assert json.loads((tmp_path / "reports/binary/language.json").read_text()) == report
    lines = (tmp_path / "reports/binary/language.jsonl").read_text().splitlines()
    assert len(lines) == report["cells"]
    assert set(json.loads(lines[0])) == {"row", "medium", "sure", "size", "shape", "texture", "focus", "describe"}
    assert {"cnn", "language", "difference", "answers", "effort"} < set(report)

    monkeypatch.delenv("FATESCOPE_LANGUAGE_URL", raising=False)
    asked = fatescope("language", "evaluate", "endpoint", "pairs", "--out", "asked.json")
    assert "no language model: set FATESCOPE_LANGUAGE_URL to the address of its endpoint" in asked.errors
