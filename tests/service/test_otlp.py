"""What reaches a collector, and what the environment says of it."""

import gzip
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from fatescope.errors import ParamsError
from service import otlp, tracing
from service.otlp import TracingSettings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@contextmanager
def collector(*statuses):
    """Yield the address of a collector, and the requests that it has got; it answers `statuses`, then 200."""
    requests, answers = [], iter(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            requests.append((self.path, dict(self.headers), body))
            self.send_response(next(answers, 200))
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()


def trace_one():
    """Trace a request with one span in it."""
    tracing.start("fatescope")
    try:
        request = tracing.Request.begin("POST", [], "00ff")
        with tracing.span("decode", cells=3):
            pass
        request.end("POST", "/classify", 503)
    finally:
        # Sends what is left.
        tracing.stop()


def values(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_spans_reach_a_collector(monkeypatch):
    with collector() as (address, requests):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{address}/")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key,x-team=cells")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=clinic")
        trace_one()
    [(path, headers, body)] = requests
    assert (path, headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
    assert {name.lower(): text for name, text in headers.items()}.items() >= {
        ("authorization", "Bearer key"), ("x-team", "cells"),
    }  # fmt: skip
    [group] = ExportTraceServiceRequest.FromString(gzip.decompress(body)).resource_spans
    named = {"service.name": "fatescope", "deployment.environment.name": "clinic"}
    assert values(group.resource.attributes) == named
    decode, request = group.scope_spans[0].spans
    assert (decode.name, request.name) == ("decode", "POST /classify")
    assert (request.kind, decode.kind) == (request.SPAN_KIND_SERVER, request.SPAN_KIND_INTERNAL)
    assert (decode.parent_span_id, decode.trace_id) == (request.span_id, request.trace_id)
    assert (len(request.trace_id), len(request.span_id), request.parent_span_id) == (16, 8, b"")
    assert 0 < request.start_time_unix_nano <= decode.start_time_unix_nano <= decode.end_time_unix_nano
    assert decode.end_time_unix_nano <= request.end_time_unix_nano
    assert values(decode.attributes) == {"fatescope.cells": 3}
    assert values(request.attributes) == {
        "fatescope.request_id": "00ff",
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 503,
    }
    assert (request.status.code, decode.status.code) == (2, 0)


def test_a_busy_collector_is_tried_again_and_one_that_refuses_is_not(monkeypatch, caplog):
    monkeypatch.setattr(otlp, "FIRST_WAIT_S", 0.01)
    # BentoML takes its loggers out of the tree.
    monkeypatch.setattr(otlp, "log", otlp.logging.getLogger("collector"))
    for statuses, tries, logged in (((503, 429), 3, False), ((400, 200), 1, True)):
        with collector(*statuses) as (address, requests):
            exporter = otlp.Exporter(TracingSettings(traces_endpoint=address))
            assert exporter.export(ended_spans()).name == ("FAILURE" if logged else "SUCCESS")
        assert len(requests) == tries
        assert ("traces are lost" in caplog.text) is logged
    assert "it answers 400" in caplog.text


def test_nothing_is_traced_without_a_collector_and_a_lost_one_ends_no_request(monkeypatch):
    for variables in (
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            tracing.start("fatescope")
            assert not tracing.is_on()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    trace_one()
    assert not tracing.is_on()


def test_the_variables_of_the_sampler_decide(monkeypatch):
    with collector() as (address, requests):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        tracing.start("fatescope")
        assert tracing.is_on()
        assert tracing.Request.begin("POST", [], "00ff") is None
        tracing.stop()
    assert requests == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc.*http/protobuf"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER=jaeger_remote"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1%"}, "OTEL_TRACES_SAMPLER_ARG=1%"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "set OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "sesame"}, "OTEL_EXPORTER_OTLP_HEADERS: not a list"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_an_error(monkeypatch, variables, reason):
    for name, value in ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=reason) as wrong:
        TracingSettings.read()
    assert "sesame" not in str(wrong.value)


def ended_spans():
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("decode")
    span.end()
    return [span]
