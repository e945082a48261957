"""Samples compared over HTTP: what the page shows, and what is refused."""

import csv
import io

import pytest

from tests.support.bundles import CLASSES

BINARY = CLASSES[:2]


def sample(name, condition, share, **fields):
    mean = dict(zip(BINARY, (share, 1 - share), strict=True))
    return {"sample": name, "condition": condition, "cells": 400, "mean": mean, "shares": mean} | fields


def ask(client, samples, query="", **fields):
    version = next(model["model"]["version"] for model in client.get("/models").json() if model["task"] == "binary")
    content = {"task": "binary", "version": version, "samples": samples} | fields
    return client.post(f"/compare{query}", json=content)


TREATED = [sample(f"t{i}", "treated", share, replicate=str(i)) for i, share in enumerate((0.7, 0.72, 0.74))]
CONTROL = [sample(f"c{i}", "control", share, replicate=str(i)) for i, share in enumerate((0.5, 0.52, 0.54))]


def test_conditions_are_compared_from_replicates(client):
    answer = ask(client, CONTROL + TREATED).raise_for_status().json()
    assert (answer["unit"], answer["level"], answer["reference"]) == ("replicate", 0.95, "control")
    first = answer["differences"][0]
    assert (first["condition"], first["reference"], first["class"]) == ("treated", "control", "astrocyte")
    assert first["difference"] == pytest.approx(0.2, abs=0.01)
    assert 0 < first["low"] < first["difference"] < first["high"] < 1
    assert first["p_value"] < 0.05
    assert first["differs"] is True
    assert first["replicates"] == [3, 3]
    assert first["why_not"] is None
    assert first["sentence"].startswith("treated has 20 percentage points more astrocytes than control (")
    assert {len(entry["class_shares"]) for entry in answer["samples"]} == {2}
    assert answer["samples"][0]["class_shares"]["astrocyte"]["share"] == pytest.approx(0.5)
    assert answer["curves"] == answer["left_out"] == []


def test_the_reference_can_be_chosen(client):
    answer = ask(client, CONTROL + TREATED, reference="treated").raise_for_status().json()
    assert [row["condition"] for row in answer["differences"]] == ["control"] * 2
    assert "fewer astrocytes than treated" in answer["differences"][0]["sentence"]


def test_one_replicate_is_no_proof_and_the_answer_says_why(client):
    [first, _] = ask(client, [*CONTROL, TREATED[0]]).raise_for_status().json()["differences"]
    assert (first["low"], first["high"], first["p_value"], first["differs"]) == (None, None, None, False)
    assert "treated has one replicate" in first["why_not"]
    # It is that of the shares beside it, however little the model of these tests knows.
    [rare, _] = ask(client, [sample("b", "y", 0.0), sample("a", "x", 1.0)]).raise_for_status().json()["differences"]
    assert rare["difference"] == pytest.approx(1)
    assert first["sentence"].endswith("which may be chance.")


def test_days_are_compared_one_by_one_and_make_curves(client):
    days = {0: 0.5, 3: 0.5, 5: 0.8, 7: 0.9}
    samples = [
        sample(f"{condition}{day}{i}", condition, base + spread, day=day)
        for condition in ("control", "treated")
        for day, share in days.items()
        for base in [share if condition == "treated" else 0.5]
        for i, spread in enumerate((-0.01, 0.0, 0.01))
    ]
    answer = ask(client, samples).raise_for_status().json()
    rows = [row for row in answer["differences"] if row["class"] == "astrocyte"]
    assert [(row["day"], row["differs"]) for row in rows] == [(0, False), (3, False), (5, True), (7, True)]
    assert rows[2]["sentence"].startswith("Day 5: treated has 30 percentage points more astrocytes")
    curves = {(c["condition"], c["class"]): c for c in answer["curves"]}
    treated = curves["treated", "astrocyte"]
    assert (treated["axis"], [point["x"] for point in treated["points"]]) == ("day", [0, 3, 5, 7])
    assert treated["points"][3]["share"] == pytest.approx(0.9, abs=0.01)
    assert treated["sentence"] == "From day 5 on, treated has more astrocytes than control."
    assert curves["control", "astrocyte"]["sentence"] == (
        "By its astrocytes, control on days 3, 5 and 7 cannot be told from control on day 0."
    )


def test_a_control_without_a_dose_serves_for_every_dose(client):
    doses = [sample(f"d{dose}{i}", "drug", 0.5 + dose / 40 + i / 100, dose=dose) for dose in (1, 10) for i in range(3)]
    answer = ask(client, CONTROL + doses).raise_for_status().json()
    rows = [(row["dose"], row["differs"]) for row in answer["differences"] if row["class"] == "astrocyte"]
    assert rows == [(1, False), (10, True)]
    [curve, _] = answer["curves"]
    assert (curve["axis"], curve["condition"]) == ("dose", "drug")
    assert curve["sentence"] == "From dose 10 on, drug has more astrocytes than at dose 1."
    [curve, _] = ask(client, CONTROL + doses, dose_unit="µM").raise_for_status().json()["curves"]
    assert curve["sentence"] == "From 10 µM on, drug has more astrocytes than at 1 µM."


def test_conditions_without_a_common_day_are_not_compared(client):
    early, late = ([{**s, "day": day} for s in side] for side, day in ((CONTROL, 1), (TREATED, 5)))
    first = ask(client, early + late).raise_for_status().json()["differences"][0]
    assert first["p_value"] is None
    assert "no day and dose in common" in first["why_not"]


def test_a_sample_without_cells_is_left_out(client):
    empty = sample("empty", "treated", 0.5, cells=0) | {"mean": {}, "shares": None}
    answer = ask(client, [*CONTROL, *TREATED, empty]).raise_for_status().json()
    assert answer["left_out"] == ["empty"]
    assert len(answer["samples"]) == 6
    assert ask(client, [empty]).status_code == 422


def test_the_table_of_differences_is_csv(client):
    response = ask(client, CONTROL + TREATED, "?format=csv").raise_for_status()
    assert response.headers["content-type"].startswith("text/csv")
    assert "fatescope-binary-comparison.csv" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"))))
    assert [row["class"] for row in rows] == BINARY
    assert (rows[0]["replicates"], rows[0]["reference_replicates"]) == ("3", "3")
    assert float(rows[0]["difference"]) == pytest.approx(0.2, abs=0.01)
    alone = ask(client, CONTROL, "?format=csv").raise_for_status()
    assert alone.content.decode("utf-8-sig").startswith("condition,reference,class")


def test_what_cannot_be_compared_is_refused_with_what_to_do(client):
    def refused(samples=CONTROL + TREATED, **fields):
        response = ask(client, samples, **fields)
        error = response.json()["error"]
        return response.status_code, error["code"], error["message"]

    status, code, message = refused(version="another")
    assert (status, code) == (409, "version")
    assert "classify them again" in message
    assert refused(reference="vehicle")[:2] == (422, "parameters")
    assert refused([{**CONTROL[0], "mean": {"astrocyte": 1.0}}])[:2] == (422, "parameters")
    for numbers in ((1.0, 1.0), (0.1, 0.1), (0.0, 0.0)):
        shares = dict(zip(BINARY, numbers, strict=True))
        assert refused([{**CONTROL[0], "mean": shares}])[:2] == (422, "parameters")
        assert refused([{**CONTROL[0], "shares": shares}])[:2] == (422, "parameters")
    assert refused([{**CONTROL[0], "day": "three"}])[:2] == (422, "parameters")
    assert refused([sample(f"s{i}", f"c{i}", 0.5) for i in range(201)])[:2] == (422, "parameters")
    assert refused([CONTROL[0]] * 5001)[:2] == (422, "parameters")
    assert refused(task="trinary")[0] == 404
