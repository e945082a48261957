"""The spans of a request, from the gateway to the engine."""

import asyncio
from contextlib import contextmanager

import numpy as np
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from service import tracing
from service.inference.batcher import Batcher
from tests.support.images import tiff

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
NAME = "patient-17-confidential.tif"


@contextmanager
def traced(sampler=ALWAYS_ON):
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    try:
        yield exporter
    finally:
        tracing.use(None)


def by_name(exporter):
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans}) == 1
    return {span.name: span for span in spans}


def attributes(span):
    return {name.removeprefix(tracing.PREFIX): value for name, value in span.attributes.items()}


def test_a_trace_has_decoding_waiting_inference_and_response_in_order(client, cell):
    with traced() as exporter:
        answer = client.post("/classify?task=binary", content=tiff(cell)).raise_for_status().json()
    spans = by_name(exporter)
    request = spans["POST /classify"]
    assert attributes(request) == {
        "request_id": answer["request_id"],
        "task": "binary",
        "version": answer["model"]["version"],
        "cells": 1,
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
    }
    order = ["decode", "batch.wait", "runner.call", "respond"]
    assert {name: spans[name].parent.span_id for name in order} == dict.fromkeys(order, request.context.span_id)
    assert spans["inference"].parent.span_id == spans["runner.call"].context.span_id
    assert attributes(spans["inference"]) == {"task": "binary", "version": answer["model"]["version"], "cells": 1}
    times = [request.start_time, *(time for name in order for time in (spans[name].start_time, spans[name].end_time))]
    assert [*times, request.end_time] == sorted([*times, request.end_time])
    assert len(spans) == 6


def test_a_trace_of_many_files_names_none_of_them(client, cell):
    files = [("files", (NAME, tiff(cell))), ("files", (NAME, b"not an image"))]
    with traced() as exporter:
        answer = client.post("/classify_batch?format=json", files=files).raise_for_status().json()
    assert [("label" in result, result["file"]) for result in answer["cells"]] == [(True, NAME), (False, NAME)]
    spans = by_name(exporter)
    assert attributes(spans["POST /classify_batch"])["cells"] == 2
    assert {"decode", "batch.wait", "runner.call", "inference", "summarise", "respond"} < spans.keys()
    assert "confidential" not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_an_error_is_named_without_its_message(client):
    with traced() as exporter:
        client.post("/classify", files={"image": (NAME, b"not an image")})
    spans = by_name(exporter)
    assert spans["decode"].attributes["error.type"] == "ImageError"
    assert spans["POST /classify"].attributes["http.response.status_code"] == 400
    assert "confidential" not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_trace_of_the_client_goes_on_and_its_decision_holds(client, cell):
    for flags, expected in (("01", 6), ("00", 0)):
        with traced(ParentBased(ALWAYS_OFF if flags == "01" else ALWAYS_ON)) as exporter:
            header = {"traceparent": f"00-{TRACE}-{CALLER}-{flags}"}
            client.post("/classify", content=tiff(cell), headers=header).raise_for_status()
        spans = exporter.get_finished_spans()
        assert len(spans) == expected
        if spans:
            request = by_name(exporter)["POST /classify"]
            assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, CALLER)


def test_requests_left_out_by_the_sampler_and_those_without_a_collector_have_no_spans(client, cell, monkeypatch):
    with traced() as exporter:
        client.get("/models").raise_for_status()
    assert exporter.get_finished_spans() == ()
    with traced(ALWAYS_OFF) as exporter:
        client.post("/classify", content=tiff(cell)).raise_for_status()
    assert exporter.get_finished_spans() == ()
    # Without a collector, none of the classes of spans is used at all.
    for name in ("_Block", "Queued", "_propagator"):
        monkeypatch.delattr(tracing, name)
    client.post("/classify", content=tiff(cell)).raise_for_status()


def test_of_requests_that_share_a_call_each_has_its_own_spans_and_one_the_network(rng):
    def cells(count):
        return rng.integers(0, 9, (count, 2, 2), np.uint16)

    called = []

    async def call(pixels):
        called.append(tracing.traceparent())
        await asyncio.sleep(0)
        return np.zeros((len(pixels), 1), np.float32)

    async def one(batcher, name, count):
        # As the middleware does: each request has a context of its own.
        request = tracing.Request.begin("POST", [], name)
        await batcher.predict(cells(count))
        request.end("POST", "/classify", 200)

    async def work():
        batcher = Batcher(call, "binary")
        await asyncio.gather(*(one(batcher, f"r{count}", count) for count in (1, 2, 3)))

    with traced() as exporter:
        asyncio.run(work())
    # The first leaves alone; those that came meanwhile go together.
    calls = [span for span in exporter.get_finished_spans() if span.name == "runner.call"]
    assert sorted(span.attributes["fatescope.cells"] for span in calls) == [1, 5, 5]
    assert len({span.context.trace_id for span in calls}) == 3
    assert len(called) == 2
    assert {caller.split("-")[2] for caller in called} < {f"{span.context.span_id:016x}" for span in calls}


def test_a_request_that_is_given_up_while_it_waits_ends_its_span(rng):
    async def call(_):
        await asyncio.sleep(3600)

    async def work():
        batcher = Batcher(call, "binary")
        first = asyncio.create_task(batcher.predict(rng.integers(0, 9, (1, 2, 2), np.uint16)))
        await asyncio.sleep(0)
        request = tracing.Request.begin("POST", [], "gone")
        gone = asyncio.create_task(batcher.predict(rng.integers(0, 9, (1, 2, 2), np.uint16)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        request.end("POST", "/classify", 499)
        first.cancel()

    with traced() as exporter:
        asyncio.run(work())
    assert by_name(exporter)["batch.wait"].attributes["error.type"] == "CancelledError"
