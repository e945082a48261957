"""The tiny LLaVA, in a folder and behind an endpoint: one model gives one answer."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from fatescope.data import dataset
from fatescope.language.budget import BudgetSpentError
from fatescope.language.client import Client
from fatescope.language.settings import LanguageSettings
from pipelines.language import llava, prompt, tiny, verdict
from pipelines.language.endpoint import Endpoint
from pipelines.language.llava import Example, Use
from tests.support.chat_server import as_json, completion, serving_chat
from tests.support.llava_endpoint import answers

CLASSES = ["astrocyte", "oligodendrocyte"]
PICTURES = [Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 60), np.uint8)) for seed in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.build(folder, 60)
    return llava.load(folder)


@contextmanager
def endpoint_of(server, **settings):
    with Client(LanguageSettings(**{"url": server.url, "model": "tiny", "tries": 1, **settings})) as client:
        yield Endpoint(client)


def test_what_is_served_answers_as_the_folder_does(model, tmp_path):
    question = prompt.question(prompt.SIZE, CLASSES)
    model.use = Use()
    expected = [model.answer([picture], question, 12)[0] for picture in PICTURES]
    tokens = model.use.tokens_in, model.use.tokens_out
    priced = {"cache": tmp_path, "price_in": 1.0, "price_out": 2.0}
    with serving_chat(answers(model)) as server, endpoint_of(server, **priced) as asked:
        assert asked.answer(PICTURES, question, 12) == expected
        assert len(server.bodies) == 3
        # The same again is in the cache.
        assert asked.answer(PICTURES, question, 12) == expected
        assert len(server.bodies) == 3
    assert (asked.use.tokens_in, asked.use.tokens_out) == tuple(2 * count for count in tokens)
    assert asked.use.cells == 6
    assert asked.use.cost == pytest.approx(2 * (tokens[0] + 2 * tokens[1]) / 1e6)
    assert asked.failed == []


@pytest.mark.slow
def test_one_verdict_judges_both(made):
    source, chosen = dataset.load(made.folder / "cells"), slice(None, None, max(1, len(made.data.rows["test"]) // 4))
    few = {
        "rows": made.data.rows | {"test": made.data.rows["test"][chosen]},
        "facts": made.data.facts | {"test": made.data.facts["test"][chosen]},
    }
    data = made.data.model_copy(update=few)
    folder = llava.load(made.folder / "tiny")
    targets = dataset.class_indices(source.manifest["label"], data.classes)

    def judge(model):
        return verdict.judge(model, lambda rows: np.eye(2)[targets[rows]] * 0.8 + 0.1, source, data, None)

    _, expected = judge(folder)
    with serving_chat(answers(folder)) as server, endpoint_of(server, price_in=1.0, price_out=2.0) as asked:
        report, texts = judge(asked)
    assert texts == expected
    assert report.effort.cost == pytest.approx((report.effort.tokens_in + 2 * report.effort.tokens_out) / 1e6)
    assert report.cells == len(data.rows["test"])


def test_what_a_model_babbles_is_no_class(model):
    with serving_chat(answers(model)) as server, endpoint_of(server) as asked:
        found = asked.probabilities(PICTURES[:1], CLASSES)
    assert found.shape == (1, 2)
    assert found.sum() == pytest.approx(1)


def test_probabilities_are_those_of_the_token_or_of_the_text():
    script = [
        completion("astrocyte", logprobs={"content": [{"token": "ast", "logprob": math.log(0.6), "top_logprobs": [
            {"token": "ol", "logprob": math.log(0.2)}]}]}),
        completion("oligodendrocyte"),
        completion("I cannot tell."),
        as_json({}, 500),
    ]  # fmt: skip
    with serving_chat(*script) as server, endpoint_of(server) as asked:
        found = asked.probabilities([*PICTURES, PICTURES[0]], CLASSES)
    np.testing.assert_allclose(found, [[0.75, 0.25], [0, 1], [0.5, 0.5], [0.5, 0.5]])
    assert len(asked.failed) == 1
    assert server.bodies[0]["top_logprobs"] == 20


def test_examples_come_before_the_question():
    with serving_chat("astrocyte") as server, endpoint_of(server) as asked:
        asked.examples = [Example(PICTURES[1], "oligodendrocyte")]
        asked.probabilities(PICTURES[:1], CLASSES)
    roles = [message["role"] for message in server.bodies[0]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert server.bodies[0]["messages"][1]["content"] == "oligodendrocyte"


def test_a_budget_that_ends_says_so(tmp_path):
    with serving_chat("astrocyte") as server:
        with (
            endpoint_of(server, cache=tmp_path, max_requests=2) as asked,
            pytest.raises(BudgetSpentError, match="what was answered before is kept"),
        ):
            asked.probabilities(PICTURES, CLASSES)
        with endpoint_of(server, cache=tmp_path, max_requests=1) as asked:
            assert asked.probabilities(PICTURES, CLASSES).shape == (3, 2)
        assert len(server.bodies) == 3
