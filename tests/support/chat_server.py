"""An OpenAI-compatible endpoint on a free port, which answers as it is told: well, badly, slowly or not at all."""

import asyncio
import json
import threading
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.support.waiting import until


class Endpoint:
    """Answers each request with the next of `script`, and with the last one for ever.

    An entry is a text, which becomes an answer, a `Response`, or a function of the body that returns either; a number
    is the seconds that the endpoint is silent for.
    """

    def __init__(self, *script):
        self.script, self.bodies, self.headers, self.url = list(script), [], [], ""

    async def answer(self, request):
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        given = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(given) and not isinstance(given, Response):
            given = await asyncio.to_thread(given, self.bodies[-1])
        if isinstance(given, int | float):
            await asyncio.sleep(given)
            given = "late"
        return given if isinstance(given, Response) else completion(given)


def completion(text, **fields):
    """Return the response with an answer; `fields` are those of its choice, and `usage`."""
    usage = fields.pop("usage", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | fields
    return as_json({"object": "chat.completion", "choices": [choice], "usage": usage})


def as_json(content, status=200, **headers):
    spelled = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Response(json.dumps(content), status, spelled, "application/json")


def dripping(seconds):
    """Return a response that sends a byte now and then, so that no single read takes long."""

    async def bytes_of_it():
        for _ in range(int(seconds / 0.05)):
            yield b" "
            await asyncio.sleep(0.05)

    return StreamingResponse(bytes_of_it(), media_type="application/json")


@contextmanager
def serving_chat(*script):
    """Serve an `Endpoint` with this script on a free port until the block ends."""
    endpoint = Endpoint(*script)
    app = Starlette(routes=[Route("/v1/chat/completions", endpoint.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    endpoint.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.force_exit = server.should_exit = True
        thread.join(10)
