"""The short way to `/classify` answers as the endpoint does, and leaves to it what it cannot read."""

import asyncio
import json
from dataclasses import replace

import pytest

from service.api import hot_path
from service.api.routes import classification
from service.inference.classify import classify_one
from service.inference.decoding import CellDecoder
from tests.support.images import tiff, typical

IMAGE = tiff(typical(0))
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts, end=f"--{BOUNDARY}--\r\n", boundary=BOUNDARY):
    """Return a form of parts, each its headers and its body."""
    return b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts) + end.encode()


def disposition(name="image", filename="cell.tif"):
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'


@pytest.fixture
def ways(monkeypatch):
    """The names of the modules that have classified a cell, in the order of the requests."""
    taken = []
    for module in (hot_path, classification):

        async def classify(*args, _module=module, _classify=module.classify_one, **options):
            taken.append(_module.__name__.rpartition(".")[2])
            return await _classify(*args, **options)

        monkeypatch.setattr(module, "classify_one", classify)
    return taken


def both(client, content, content_type, **params):
    """Return the responses by the short way and by the endpoint, without what is new in each."""
    headers = {"Content-Type": content_type} if content_type else {}
    answers = []
    for more in (params, params | {"explain": "false"}):
        response = client.post("/classify", params=more, content=content, headers=headers)
        answer = response.json()
        assert answer.pop("request_id", response.headers["x-request-id"]) == response.headers["x-request-id"]
        answers.append((response.status_code, answer, response.headers["content-type"]))
    return answers


PLAIN = {
    "a body": (IMAGE, None),
    "a body that is called a form": (IMAGE, "application/x-www-form-urlencoded"),
    "a form": (form((disposition(), IMAGE)), FORM),
    "a form of curl": (form((disposition() + "\r\nContent-Type: application/octet-stream", IMAGE)), FORM),
    "a quoted boundary": (form((disposition(), IMAGE)), f'multipart/form-data; boundary="{BOUNDARY}"'),
    "headers in lower case": (form((disposition().lower(), IMAGE)), FORM),
    "headers in upper case": (form((disposition("@", "@").upper().replace("@", "image"), IMAGE)), FORM),
    "no line break at the end": (form((disposition(), IMAGE), end=f"--{BOUNDARY}--"), FORM),
    "no image": (b"no image", None),
    "an empty body": (b"", None),
    "a long name": (form((disposition(filename="a" * 250), b"no image")), FORM),
    "an empty part": (form((disposition(), b"")), FORM),
    "a damaged image": (form((disposition(), IMAGE[:100])), FORM),
}
OTHERS = {
    "a name that is not ASCII": form((disposition(filename="zelle é.tif"), IMAGE)),
    "a name with quotes": form((disposition(filename='a\\"b.tif'), IMAGE)),
    "a name in another encoding": form((disposition() + "; filename*=UTF-8''%41.tif", IMAGE)),
    "another header": form((disposition() + "\r\nX-More: 1", IMAGE)),
    "no file name": form(('Content-Disposition: form-data; name="image"', b"text")),
    "another part": form((disposition("cell"), IMAGE)),
    "a part in another case": form((disposition("Image"), IMAGE)),
    "a name that no file has": form((disposition(filename="a" * 5_000), IMAGE)),
    "a media type that is none": form((disposition() + f"\r\nContent-Type: {'a' * 5_000}", IMAGE)),
    "a second part": form((disposition(), IMAGE), (disposition("second"), IMAGE)),
    "a second field": form((disposition(), IMAGE), ('Content-Disposition: form-data; name="note"', b"a note")),
    "no parts": form(),
    "text before the first part": b"preamble\r\n" + form((disposition(), IMAGE)),
    "text behind the last": form((disposition(), IMAGE)) + b"epilogue",
    "the boundary in the image": form((disposition(), IMAGE + f"\r\n--{BOUNDARY}".encode() + b"x")),
}


@pytest.mark.parametrize(("content", "content_type"), PLAIN.values(), ids=PLAIN)
def test_it_answers_as_the_endpoint_does(client, ways, content, content_type):
    short, long = both(client, content, content_type)
    assert short == long
    assert ways == ["hot_path", "classification"]


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_form_that_it_cannot_read_is_left_to_the_endpoint(client, ways, content):
    short, long = both(client, content, FORM)
    assert short == long
    assert "hot_path" not in ways


def test_a_form_without_its_end_is_none():
    # The endpoint refuses it too, but Starlette leaves a file open then.
    assert hot_path._only_file(FORM.encode(), form((disposition(), IMAGE))).raw == IMAGE
    assert hot_path._only_file(FORM.encode(), form((disposition(), IMAGE), end="")) is None


@pytest.mark.parametrize("params", [{"task": "binary"}, {"task": "no such"}, {"task": "nosuch"}, {"task": ""}])
def test_tasks_are_those_of_the_endpoint(client, ways, params):
    short, long = both(client, IMAGE, None, **params)
    assert short == long
    if params["task"] == "binary":
        assert (short[1]["task"], ways) == ("binary", ["hot_path", "classification"])


def test_it_is_counted_admitted_and_recorded_like_the_endpoint(client, ways, monkeypatch):
    counted, recorded = [], []
    monkeypatch.setattr("service.api.middleware.metrics.count_request", lambda *call: counted.append(call[:2]))
    monkeypatch.setattr(type(client.app.state.service.prediction_log), "add", lambda *call: recorded.append(call[1]))
    response = client.post("/classify", content=IMAGE).raise_for_status()
    assert client.post("/classify", content=b"no image").json()["error"]["code"] == "not_an_image"
    assert ways == ["hot_path", "hot_path"]
    assert client.post("/classify", params={"task": "nosuch"}, content=IMAGE).status_code == 404
    large = client.post("/classify", content=b"", headers={"Content-Length": "20000001"})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
    assert counted == [("/classify", 200), ("/classify", 400), ("/classify", 404), ("other", 413)]
    assert recorded == [response.headers["x-request-id"]]


def test_other_methods_and_paths_are_not_its_own(client, ways):
    assert client.get("/classify").status_code == 405
    redirected = client.post("/classify/", content=IMAGE, follow_redirects=False)
    assert redirected.status_code == 307
    assert ways == []


def test_a_canary_is_asked_as_by_the_endpoint(client, monkeypatch):
    asked = []

    class Canary:
        """Answers as another version would."""

        async def classify_one(self, uploads, model, record, scope, request_id, *, judge_quality=None):
            asked.append((uploads, scope["path"], request_id, judge_quality))
            other = replace(model, champion=replace(model.champion, version="another"))
            return other, *await classify_one(uploads, model, record, judge_quality=judge_quality)

    # It is frozen.
    monkeypatch.setitem(vars(client.app.state.service), "canary", Canary())
    short, long = both(client, IMAGE, None)
    assert short == long
    assert short[1]["model"]["version"] == "another"
    [first, second] = asked
    assert (first[0], first[1], first[3]) == (second[0], second[1], second[3])


@pytest.mark.parametrize(
    ("changed", "way"),
    [({"channel": None}, "hot_path"), ({"channels": {"1": "brightfield", "6": "darkfield"}}, "classification")],
)
def test_only_a_model_of_several_channels_is_left_to_the_endpoint(client, ways, monkeypatch, changed, way):
    state = client.app.state.service
    model = state.models.get("binary")
    spec = model.spec.model_copy(update=changed)
    other = replace(model, spec=spec, decoder=CellDecoder(spec, model.decoder.pages))
    monkeypatch.setattr(type(state.models), "get", lambda *_: other)
    short, long = both(client, IMAGE, None)
    assert short == long
    assert (short[0], ways) == ((200, [way, "classification"]) if way == "hot_path" else (400, []))


def by_asgi(app, messages, query=b"", root_path=""):
    """Return status and JSON of the response to a POST whose body comes as `messages`."""
    left, sent = list(messages), []
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": f"{root_path}/classify", "raw_path": b"/classify", "query_string": query,
        "root_path": root_path, "headers": [(b"host", b"localhost")], "server": ("localhost", 3000),
        "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    answer.pop("request_id", None)
    return sent[0]["status"], answer


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


BODIES = {
    "in parts": [part(IMAGE[:100]), part(b""), part(IMAGE[100:]), part(b"", more=False)],
    "broken off": [part(IMAGE[:100])],
    "broken off behind the image": [part(IMAGE)],
    "never begun": [],
}


@pytest.mark.parametrize("messages", BODIES.values(), ids=BODIES)
def test_bodies_arrive_as_at_the_endpoint(app, ways, messages):
    short, long = by_asgi(app, messages), by_asgi(app, messages, b"explain=false")
    assert short == long
    complete = messages == BODIES["in parts"]
    assert (short[0], ways) == ((200, ["hot_path", "classification"]) if complete else (400, []))


def test_a_form_that_is_left_to_the_endpoint_arrives_once(app):
    """Whoever reads behind the end of the body learns that the client has gone, not the body again."""
    read = []

    async def endpoint(_, receive, __):
        read.extend([await receive(), await receive()])

    left = [part(b"--"), part(b"x", more=False), {"type": "http.disconnect"}]

    async def receive():
        return left.pop(0)

    scope = {
        "type": "http", "method": "POST", "path": "/classify", "query_string": b"", "app": app,
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }  # fmt: skip
    asyncio.run(hot_path.HotPathMiddleware(endpoint)(scope, receive, None))
    assert read == [part(b"--x", more=False), {"type": "http.disconnect"}]


def test_a_prefix_of_a_proxy_is_no_part_of_the_path(app, ways):
    short, long = (by_asgi(app, [part(IMAGE, more=False)], query, "/cells") for query in (b"", b"explain=false"))
    assert short == long
    assert (short[0], ways) == (200, ["hot_path", "classification"])
