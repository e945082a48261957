"""Cultures described over HTTP: by the template, by a language model, and what is refused."""

import json
import threading

import pytest

from tests.support.chat_server import as_json, serving_chat
from tests.support.in_process import application, connected

FIGURES = {
    "cells": 400, "refused": 0, "sure": 300, "unsure": 90, "unlike_training": 10, "outside": 4,
    "outside_reasons": {"focus": 4}, "called": {"astrocyte": 250, "oligodendrocyte": 150},
    "composition": {
        "astrocyte": {"share": 0.6249, "low": 0.55, "high": 0.69},
        "oligodendrocyte": {"share": 0.3751, "low": 0.31, "high": 0.45},
    },
    "differences": [{"figure": "background", "here": 1523.4, "known": 801.0}],
}  # fmt: skip
GOOD = (
    "62 % of the cells are [A] (95 % interval 55 to 69 %), 38 % are [B] (31 to 45 %). Of the 400 cells, 300 are sure."
)


def ask(client, **changes):
    version = next(model["model"]["version"] for model in client.get("/models").json() if model["task"] == "binary")
    return client.post("/describe", json={"task": "binary", "version": version, "culture": FIGURES | changes})


def test_without_a_model_the_template_describes(client):
    answer = ask(client).raise_for_status().json()
    assert (answer["source"], answer["model"], answer["why"]) == ("template", None, "no language model is set up")
    assert answer["text"].startswith("About 62 % of the cells are astrocytes (95 % interval 55 to 69 %) and 38 % are")
    assert "brightness of the background, typically 1,520 here and 801 in training" in answer["text"]
    assert "trained on simulated cells only" in answer["text"]


def test_cells_with_several_images_are_named(client):
    assert "12 cells have several images" in ask(client, followed=12).raise_for_status().json()["text"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sure": 301}, "do not add up to cells"),
        ({"unlike_training": 400, "sure": 0, "unsure": 0}, "no cell that counts in it"),
        ({"outside": 401}, "more cells are outside"),
        ({"composition": {"astrocyte": FIGURES["composition"]["astrocyte"]}}, "give the share of each of astrocyte"),
        (
            {"composition": FIGURES["composition"] | {"astrocyte": {"share": 0.5, "low": 0.4, "high": 0.69}}},
            "do not add up to 1",
        ),
        ({"composition": {"a": {"share": 1, "low": 1, "high": 1}}}, "give the share of each of astrocyte"),
        (
            {"composition": FIGURES["composition"] | {"astrocyte": {"share": 0.6249, "low": 0.63, "high": 0.69}}},
            "a share is outside its interval",
        ),
        ({"differences": [{"figure": "say 99 %", "here": 1, "known": 2}]}, "a figure is none of background"),
        ({"sample": "a name"}, "sample"),
        ({"cells": -1}, "cells"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(client, changes, message):
    response = ask(client, **changes)
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]


def test_cells_of_another_version_are_refused(client):
    response = client.post("/describe", json={"task": "binary", "version": "0", "culture": FIGURES})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "version")


@pytest.fixture
def asking(bundles, tmp_path, monkeypatch):
    """A client of an application that asks `endpoint`."""

    def make(endpoint):
        monkeypatch.setenv("FATESCOPE_LANGUAGE_URL", endpoint.url)
        monkeypatch.setenv("FATESCOPE_LANGUAGE_MODEL", "tiny")
        return application(tmp_path, bundles)

    return make


def test_a_language_model_gets_figures_alone_and_writes_what_was_found(asking):
    with serving_chat(GOOD, "62 % are [B].") as endpoint, asking(endpoint) as app, connected(app) as client:
        first, second = (ask(client).raise_for_status().json() for _ in range(2))
    assert (first["source"], first["model"], first["why"]) == ("model", "tiny", None)
    assert first["text"].startswith(
        "62 % of the cells are astrocytes (95 % interval 55 to 69 %), 38 % are oligodendrocytes"
    )
    assert first["text"].endswith("one culture does not tell what a treatment does.")
    assert (second["source"], second["model"]) == ("template", "tiny")
    assert "'62 %' is not the share of [B]" in second["why"]
    sent = json.dumps(endpoint.bodies)
    assert not any(word in sent for word in ("astrocyte", "image_url", "base64"))


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (as_json({"error": "organisation 17 owes money"}, 402), "it refused the request"),
        (as_json({"error": "down"}, 503), "it is busy"),
        (as_json({"choices": []}), "its answer cannot be read"),
    ],
)
def test_users_are_told_nothing_of_the_endpoint_and_the_log_all(asking, caplog, response, why):
    with serving_chat(response) as endpoint, asking(endpoint) as app, connected(app) as client:
        answer = ask(client).raise_for_status().json()
    assert (answer["source"], answer["why"]) == ("template", f"the language model gave no answer: {why}")
    assert f"no description by the language model: {endpoint.url}: " in caplog.text


def test_a_budget_that_is_used_up_is_no_error(asking, monkeypatch):
    monkeypatch.setenv("FATESCOPE_LANGUAGE_MAX_REQUESTS", "1")
    with serving_chat(GOOD) as endpoint, asking(endpoint) as app, connected(app) as client:
        first, second = (ask(client).raise_for_status().json() for _ in range(2))
    assert first["source"] == "model"
    assert second["why"] == "the language model gave no answer: its budget is used up"


def test_while_the_model_is_busy_others_get_the_template_at_once(asking):
    go, begun = threading.Event(), threading.Semaphore(0)

    def wait(_):
        begun.release()
        go.wait(15)
        return GOOD

    with serving_chat(wait) as endpoint, asking(endpoint) as app, connected(app) as client:
        found = []
        threads = [threading.Thread(target=lambda: found.append(ask(client).json())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert begun.acquire(timeout=60)
        third = ask(client).json()
        go.set()
        for thread in threads:
            thread.join()
    assert (third["source"], third["why"]) == (
        "template",
        "the language model is busy with others; ask again later",
    )
    assert [answer["source"] for answer in found] == ["model", "model"]
