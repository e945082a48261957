"""The client against an endpoint that answers well, badly, slowly or not at all."""

import io
import json
import math
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from PIL import Image
from starlette.responses import RedirectResponse, Response

from fatescope.errors import ParamsError
from fatescope.language import class_answer
from fatescope.language.budget import Budget, BudgetSpentError
from fatescope.language.cache import AnswerCache
from fatescope.language.chat import Message, Question
from fatescope.language.client import Client, EndpointError
from fatescope.language.settings import LanguageSettings
from tests.support.chat_server import as_json, completion, dripping, serving_chat
from tests.support.project import ROOT
from tests.support.servers import free_port

QUESTION = Question((Message("user", "Which class is it?"),), max_tokens=20)
KEY = "a-key-that-no-message-may-repeat"


def picture():
    file = io.BytesIO()
    Image.new("L", (8, 8), 90).save(file, "PNG")
    return file.getvalue()


def client(endpoint, waits=None, **settings):
    found = LanguageSettings(**{"url": endpoint.url, "model": "tiny", "timeout_s": 20.0, **settings})
    return Client(found, sleep=(waits if waits is not None else []).append)


def test_a_question_goes_out_in_the_form_of_the_protocol():
    png = picture()
    with serving_chat("astrocyte") as endpoint, client(endpoint, key=KEY) as asking:
        answer = asking.ask(
            Question((Message("system", "Be brief."), Message("user", "Which?", (png,))), 7, logprobs=5)
        )
    assert (answer.text, answer.model, answer.cut) == ("astrocyte", "tiny", False)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.counted) == (10, 5, True)
    [body] = endpoint.bodies
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_logprobs"]) == ("tiny", 7, 0, 5)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    image, text = body["messages"][1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "Which?"}


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_go_right_the_next_time_is_tried_again(status):
    waits = []
    busy = as_json({"error": {"message": "busy"}}, status)
    with serving_chat(busy, busy, "astrocyte") as endpoint, client(endpoint, waits) as asking:
        assert asking.ask(QUESTION).text == "astrocyte"
        assert asking.budget.spent.requests == 3
    assert len(waits) == 2
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1


def test_it_waits_as_long_as_the_endpoint_asks_for():
    waits = []
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    script = (
        as_json({}, 429, Retry_After=7),
        as_json({}, 503, Retry_After=later),
        as_json({}, 429, Retry_After="soon"),
    )
    with serving_chat(*script, "astrocyte") as endpoint, client(endpoint, waits) as asking:
        asking.ask(QUESTION)
    assert waits[0] == 7
    assert 15 < waits[1] <= 20
    assert 0 < waits[2] <= 2


def test_an_endpoint_that_asks_for_too_long_a_wait_is_given_up():
    waits = []
    with (
        serving_chat(as_json({}, 429, Retry_After=3600)) as endpoint,
        client(endpoint, waits) as asking,
        pytest.raises(EndpointError, match=r"after 1 try, and it asks to wait 3600 s"),
    ):
        asking.ask(QUESTION)
    assert (waits, len(endpoint.bodies)) == ([], 1)


@pytest.mark.parametrize(
    ("response", "code", "message", "tries"),
    [
        (as_json({"error": "down"}, 500), "busy", r"status 500, .*down.*after 3 tries", 3),
        (as_json({"error": f"bad key {KEY}"}, 401), "refused", r"bad key ….*set FATESCOPE_LANGUAGE_KEY", 1),
        (Response("x" * 290 + KEY, 401), "refused", r"xxx…; set FATESCOPE_LANGUAGE_KEY", 1),
        (Response(f"Bearer {KEY}"), "malformed", r"not JSON \(Bearer …\)", 1),
        (Response("x" * 110 + KEY), "malformed", r"xxx…\)", 1),
        (as_json({"error": "no such model"}, 404), "refused", r"FATESCOPE_LANGUAGE_URL ends with /v1", 1),
        (as_json({"error": "no images"}, 400), "refused", r"status 400, .*no images", 1),
        (RedirectResponse("http://127.0.0.1:1/v1"), "refused", r"status 307", 1),
        (Response("<html>hello", media_type="application/json"), "malformed", r"not JSON \(<html>hello\)", 1),
        (Response("[" * 100_000), "malformed", "not JSON", 1),
        (Response(""), "malformed", "it is empty", 1),
        (as_json([]), "malformed", r"no choices\[0\]", 1),
        (as_json({"choices": []}), "malformed", r"no choices\[0\]", 1),
        (as_json({"choices": [{"message": {"content": None}}]}), "malformed", r"no choices\[0\]", 1),
        (completion("a" * 100_001), "malformed", "100,001 characters", 1),
        (Response(b" " * 2_100_000), "malformed", "over 2,000,000 bytes", 1),
    ],
)
def test_an_answer_that_is_of_no_use_says_why(response, code, message, tries):
    with (
        serving_chat(response) as endpoint,
        client(endpoint, key=KEY, tries=3) as asking,
        pytest.raises(EndpointError, match=message) as raised,
    ):
        asking.ask(QUESTION)
    assert raised.value.code == code
    assert KEY not in str(raised.value)
    assert len(endpoint.bodies) == tries


@pytest.mark.parametrize("silent", [30, dripping(30)], ids=["silent", "dripping"])
def test_an_endpoint_that_hangs_is_left(silent):
    with serving_chat(silent, "astrocyte") as endpoint, client(endpoint, timeout_s=0.3, tries=1) as asking:
        with pytest.raises(EndpointError, match=r"no answer within 0\.3 s; raise FATESCOPE_LANGUAGE_TIMEOUT_S"):
            asking.ask(QUESTION)
        assert asking.ask(QUESTION).text == "astrocyte"


def test_an_endpoint_whose_headers_come_byte_by_byte_is_left():
    stop = threading.Event()

    def drip(listening):
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(100_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Name: ")
            while not stop.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        settings = LanguageSettings(
            url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1", model="tiny", timeout_s=0.5, tries=1
        )
        timer = threading.Timer(20, stop.set)  # so that it fails, and does not hang
        timer.start()
        with Client(settings) as asking, pytest.raises(EndpointError, match=r"no answer within 0\.5 s"):
            asking.ask(QUESTION)
        assert not stop.is_set()
        stop.set()
        timer.cancel()
        thread.join()


def test_numbers_of_tokens_beyond_reason_are_not_believed():
    beyond = completion("a", usage={"prompt_tokens": 10**30, "completion_tokens": 1})
    with serving_chat(beyond) as endpoint, client(endpoint, max_tokens=100) as asking:
        assert not asking.ask(QUESTION).counted
        assert asking.ask(QUESTION).text == "a"


def test_an_address_where_nobody_answers_is_named():
    settings = LanguageSettings(url=f"http://127.0.0.1:{free_port()}/v1", model="tiny", tries=2)
    with (
        Client(settings, sleep=lambda _: None) as asking,
        pytest.raises(EndpointError, match="cannot be reached") as of,
    ):
        asking.ask(QUESTION)
    assert of.value.code == "unreachable"


def test_answers_in_parts_without_usage_and_cut_are_read():
    parts = completion([{"type": "text", "text": "astro"}, {"type": "text", "text": "cyte"}], finish_reason="length",
                       usage=None)  # fmt: skip
    with serving_chat(parts) as endpoint, client(endpoint) as asking:
        answer = asking.ask(QUESTION)
    assert (answer.text, answer.cut, answer.counted, answer.completion_tokens) == ("astrocyte", True, False, 3)


def test_a_budget_stops_and_what_was_answered_stays(tmp_path):
    questions = [Question((Message("user", f"cell {number}"),), max_tokens=5) for number in range(5)]
    found = []
    with serving_chat("astrocyte") as endpoint:
        limited = {"cache": tmp_path, "max_requests": 3}
        with (
            client(endpoint, **limited) as asking,
            pytest.raises(BudgetSpentError, match=r"3 requests were sent, and FATESCOPE_LANGUAGE_MAX_REQUESTS is 3"),
        ):
            found.extend(asking.ask_all(questions))
        assert [answer.text for answer in found] == ["astrocyte"] * 3
        with client(endpoint, **limited) as asking:
            found = list(asking.ask_all(questions))
    assert [answer.kept for answer in found] == [True] * 3 + [False] * 2
    assert len(endpoint.bodies) == 5


@pytest.mark.parametrize(
    ("limits", "requests", "message"),
    [
        ({"max_tokens": 40}, 2, "30 tokens were used, and FATESCOPE_LANGUAGE_MAX_TOKENS is 40"),
        (
            {"max_cost": 0.001, "price_in": 30.0, "price_out": 20.0},
            2,
            "0.0008 was spent, and FATESCOPE_LANGUAGE_MAX_COST",
        ),
    ],
)
def test_tokens_and_money_are_limited_before_they_are_spent(limits, requests, message):
    with (
        serving_chat("astrocyte") as endpoint,
        client(endpoint, **limits) as asking,
        pytest.raises(BudgetSpentError, match=message),
    ):
        list(asking.ask_all([Question((Message("user", "?"),), max_tokens=15)] * 10))
    assert len(endpoint.bodies) == requests


def test_a_budget_of_a_day_begins_anew():
    now = [0.0]
    budget = Budget(LanguageSettings(max_requests=1), 60.0, lambda: now[0])
    budget.admit(1)
    with pytest.raises(BudgetSpentError):
        budget.admit(1)
    now[0] = 60
    budget.admit(1)


def test_failed_questions_stand_between_answers():
    with serving_chat("a", as_json({}, 400), "b") as endpoint, client(endpoint) as asking:
        found = list(asking.ask_all([QUESTION] * 3))
    assert [getattr(one, "text", None) for one in found] == ["a", None, "b"]
    assert isinstance(found[1], EndpointError)


@pytest.mark.parametrize(
    "other",
    [
        Question((Message("user", "Which class is it? "),), max_tokens=20),
        Question((Message("system", "Which class is it?"),), max_tokens=20),
        Question((Message("user", "Which class is it?", (b"png",)),), max_tokens=20),
        Question(QUESTION.messages, max_tokens=21),
        Question(QUESTION.messages, max_tokens=20, temperature=0.1),
        Question(QUESTION.messages, max_tokens=20, seed=1),
        Question(QUESTION.messages, max_tokens=20, logprobs=5),
    ],
)
def test_only_the_same_question_has_the_same_digest(other):
    assert other.digest("a", "m") != QUESTION.digest("a", "m")
    assert QUESTION.digest("b", "m") != QUESTION.digest("a", "m") != QUESTION.digest("a", "n")


def test_a_damaged_file_of_the_cache_is_asked_again(tmp_path, caplog):
    with serving_chat("first", "second") as endpoint:
        for expected, damage in (("first", '{"text": "x"}'), ("second", "{"), ("second", None)):
            with client(endpoint, cache=tmp_path) as asking:
                assert asking.ask(QUESTION).text == expected
            [path] = tmp_path.rglob("*.json")
            if damage:
                path.write_text(damage)
            if expected == "second" and damage:
                break
    assert "cannot be used" in caplog.text


WRITE = """
import sys
from pathlib import Path
from fatescope.language.cache import AnswerCache
from fatescope.language.chat import Answer
cache = AnswerCache(Path(sys.argv[1]))
for number in range(200):
    digest = f"{number:064x}"
    known = cache.find(digest)
    assert known is None or known.text == "x" * 5000, known
    cache.keep(digest, Answer("x" * 5000, "m", False, 1, 1, True, {"a": -0.5}))
"""


def test_several_processes_share_a_cache(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0] * 3
    assert len(list(tmp_path.rglob("*.json"))) == len(list(tmp_path.rglob("*.*"))) == 200
    assert AnswerCache(tmp_path).find(f"{7:064x}").first == {"a": -0.5}


CLASSES = ["astrocyte", "oligodendrocyte", "NT3", "NT3 late"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("astrocyte", "astrocyte"),
        (" It is an Astrocyte.\n", "astrocyte"),
        ("NT3", "NT3"),
        ("NT3 late", "NT3 late"),
        ("astrocytes", "astrocyte"),
        ("an astrocyte, not an oligodendrocyte", None),
        ("a neuron", None),
        ("superastrocyte", None),
        ("", None),
    ],
)
def test_a_class_is_read_from_a_text(text, name):
    assert class_answer.named(text, CLASSES) == name


def logprobs(**shares):
    alternatives = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    return {"content": [{**alternatives[0], "top_logprobs": alternatives}]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (logprobs(ast=0.6, olig=0.3, the=0.1), [2 / 3, 1 / 3]),
        (logprobs(Astrocyte=0.5, ast=0.25, o=0.25), [0.75, 0.25]),
        (logprobs(the=0.9, ast=0.1), None),
        (None, None),
        ({"content": []}, None),
        ({"content": "x"}, None),
        ({"content": [{"token": "a", "logprob": "low", "top_logprobs": []}]}, None),
        ({"content": [{"token": "a", "logprob": 3.0, "top_logprobs": []}]}, None),
    ],
)
def test_probabilities_come_from_the_first_token(given, expected):
    with serving_chat(completion("astrocyte", logprobs=given)) as endpoint, client(endpoint) as asking:
        found = class_answer.probabilities(asking.ask(QUESTION), CLASSES[:2])
    assert found is None if expected is None else found == pytest.approx(expected)


def test_first_tokens_that_begin_several_names_say_nothing():
    with serving_chat(completion("NT3", logprobs=logprobs(NT=0.9, a=0.1))) as endpoint, client(endpoint) as asking:
        assert class_answer.probabilities(asking.ask(QUESTION), CLASSES) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"URL": "127.0.0.1:8000"}, "FATESCOPE_LANGUAGE_URL=127.0.0.1:8000: not an HTTP address"),
        ({"URL": "http://127.0.0.1/v1"}, "FATESCOPE_LANGUAGE_URL and FATESCOPE_LANGUAGE_MODEL go together"),
        (
            {"URL": "http://me:secret@127.0.0.1/v1"},
            "FATESCOPE_LANGUAGE_URL=http://…@127.0.0.1/v1: it holds a name or a password",
        ),
        ({"MAX_COST": "3"}, "FATESCOPE_LANGUAGE_MAX_COST needs FATESCOPE_LANGUAGE_PRICE_IN"),
        ({"TRIES": "0"}, "FATESCOPE_LANGUAGE_TRIES=0"),
        ({"KEY": "schl\xfcssel"}, "FATESCOPE_LANGUAGE_KEY: it has characters that no header can hold"),
    ],
)
def test_wrong_settings_are_named(environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(f"FATESCOPE_LANGUAGE_{name}", value)
    with pytest.raises(ParamsError, match=message) as raised:
        LanguageSettings.read()
    assert "secret" not in str(raised.value)


def test_no_setting_shows_the_key():
    assert KEY not in repr(LanguageSettings(key=KEY)) + json.dumps(LanguageSettings(key=KEY).model_dump(mode="json"))


def test_without_an_endpoint_there_is_no_client():
    with pytest.raises(ParamsError, match="FATESCOPE_LANGUAGE_URL"):
        Client(LanguageSettings())
