"""`fatescope models verify`: its report, and an exit code for each outcome."""

import json

import numpy as np
import pytest

from fatescope.errors import BundleError
from pipelines.commands import verify
from pipelines.verification.agreement import compare_logits
from pipelines.verification.report import Verification, spread

LOGITS = np.array([[2.0, -1.0], [0.5, 0.0], [-1.0, 1.0], [0.0, 3.0]])


def verification(registered):
    """Return what the rebuild of a version with this accuracy shows; other seeds reach 0.90 to 0.92."""
    metric = spread(registered, 0.91, [0.90, 0.91, 0.92], resolution=0.001)
    return Verification(
        task="binary",
        model="fatescope-binary",
        version="3",
        reproduced=metric.within,
        outcome="within" if metric.within else "outside",
        commit="0" * 40,
        changed=True,
        repository="/srv/fatescope",
        data_hash="d" * 64,
        data_version=None,
        seed=0,
        seeds=[1, 2, 3],
        epochs=[12],
        shortened=False,
        environment="here",
        differences=[{"name": "torch", "recorded": "2.14.1", "used": None}],
        scheme="grouped",
        cells=4,
        recorded_balanced_accuracy=None,
        metrics={"balanced_accuracy": metric},
        logits=compare_logits(LOGITS, np.add(LOGITS, [0.0, 1.0])),
        reseeded_logits=[compare_logits(LOGITS, -LOGITS)] * 3,
        remarks=["a remark"],
    )


@pytest.fixture
def verified(tmp_path, monkeypatch):
    """Have every rebuild show what is given, or raise it; return what was asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nothing.db")
    asked = []

    def prepare(outcome):
        def fake(*arguments):
            asked.append(arguments)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(verify, "verify", fake)
        return asked

    return prepare


def test_a_version_that_is_reproduced(verified, fatescope, tmp_path):
    asked = verified(verification(0.93))
    result = fatescope("models", "verify", "binary", "champion", "--here", "--rebuilds", "5", "--data", "cells")
    assert result.code == 0
    [(task, version, choices)] = asked
    assert (task, version, choices.here, choices.reseeded, str(choices.data)) == (
        "binary",
        "champion",
        True,
        5,
        "cells",
    )
    assert "version 3: reproduced: all metrics are within the spread over seeds" in result.output
    # One of four cells is called otherwise when its second logit is one higher.
    assert "differ by 1 at most and by 0.5 on average; the call is the same for 75.00% of cells" in result.output
    assert "torch: 2.14.1 then, none now" in result.output
    report = json.loads((tmp_path / "reports/binary/verify/3.json").read_text())
    assert Verification.model_validate(report).reproduced


def test_one_that_is_not_has_an_exit_code_of_its_own(verified, fatescope, tmp_path):
    verified(verification(0.99))
    result = fatescope("models", "verify", "binary", "3", "--json", "--out", "found.json")
    assert (result.code, json.loads(result.output)["outcome"]) == (4, "outside")
    assert json.loads((tmp_path / "found.json").read_text()) == json.loads(result.output)
    assert "NOT reproduced: balanced_accuracy outside" in fatescope("models", "verify", "binary", "3").output


def test_one_that_cannot_be_built_is_an_error(verified, fatescope, tmp_path):
    verified(BundleError("it was made before versions recorded how"))
    result = fatescope("models", "verify", "binary", "1")
    assert (result.code, result.errors) == (1, "error: it was made before versions recorded how\n")
    assert not (tmp_path / "reports").exists()
