"""The samples of a batch job, compared."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fatescope.cli.app import app
from fatescope.errors import DataError
from service.batch import cultures
from tests.support.bundles import CLASSES, COMMITTED

SHARES = {"control": (0.1, 0.12, 0.14), "CHIR": (0.7, 0.72, 0.74)}


def finished(out, samples):
    """Write what a job leaves whose samples have (share of the first class) cells."""
    shutil.copytree(COMMITTED / "binary", out / "model")
    rng = np.random.default_rng(0)
    rows = []
    for sample, share in samples.items():
        for i in range(300):
            right = 0.98 if rng.random() < share else 0.02
            rows.append((f"{sample}/{i}.tif", right, 1 - right, "sure"))
    rows.append((f"{next(iter(samples))}/other.tif", 1.0, 0.0, "unlike_training"))
    (out / "cells").mkdir()
    columns = ["file", *(f"p_{name}" for name in CLASSES[:2]), "verdict"]
    pd.DataFrame(rows, columns=columns).assign(quality=None).to_parquet(out / "cells" / "0.parquet")
    (out / "summary.json").write_text("{}")
    return out


@pytest.fixture
def scored(tmp_path):
    names = {f"{name}_r{i}": share for name, shares in SHARES.items() for i, share in enumerate(shares, 1)}
    return finished(tmp_path / "out", names)


def test_folders_name_the_roles(scored):
    compared = cultures.compare(scored, None, "control")
    first = compared.differences[0]
    assert (first.condition, first.reference, first.name) == ("CHIR", "control", "astrocyte")
    assert first.estimate.difference == pytest.approx(0.6, abs=0.05)
    assert first.estimate.replicates == (3, 3)
    assert first.estimate.differs


def test_a_plate_map_says_them_too(scored, tmp_path):
    table = tmp_path / "plate.csv"
    rows = [f"{name}_r{i},dish,{day}" for name, day in (("control", 0), ("CHIR", 4)) for i in (1, 2, 3)]
    table.write_text("sample,condition,day\n" + "\n".join(rows))
    compared = cultures.compare(scored, table, None)
    assert compared.differences == []
    assert compared.curves[0].sentence == "From day 4 on, dish has more astrocytes than on day 0."


def test_what_is_missing_is_told(scored, tmp_path, caplog):
    with pytest.raises(DataError, match="no finished job"):
        cultures.compare(tmp_path, None, None)
    with pytest.raises(DataError, match="--reference vehicle: no sample has this condition; there are CHIR, control"):
        cultures.compare(scored, None, "vehicle")
    with pytest.raises(DataError, match="not a plate map"):
        cultures.compare(scored, tmp_path / "none.csv", None)
    nameless = finished(tmp_path / "nameless", {"r1": 0.5, "r2": 0.5})
    with pytest.raises(DataError, match="no sample has a condition"):
        cultures.compare(nameless, None, None)
    assert "not compared, because no condition is given: r1, r2" in caplog.text


def test_the_command_prints_sentences_or_json(scored):
    result = CliRunner().invoke(app, ["cultures", str(scored), "--reference", "control"])
    assert result.output.startswith("CHIR has ")
    assert " more astrocytes than control (" in result.output
    content = json.loads(CliRunner().invoke(app, ["cultures", str(scored), "--json"]).output)
    assert content["reference"] == "CHIR"
    assert content["differences"][0]["class"] == "astrocyte"
    assert content["differences"][0]["differs"] is True


def test_sentences_name_the_unit_that_names_of_folders_have(tmp_path):
    shares = {f"CHIR_{dose}_r{i}": share for dose, share in (("500nM", 0.4), ("3uM", 0.8)) for i in (1, 2, 3)}
    compared = cultures.compare(finished(tmp_path / "doses", shares), None, None)
    assert {curve.sentence for curve in compared.curves if curve.name == "astrocyte"} == {
        "From 3000 nM on, CHIR has more astrocytes than at 500 nM."
    }
