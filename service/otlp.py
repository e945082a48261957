"""Sends spans to an OpenTelemetry collector: OTLP over HTTP, as Protocol Buffers.

The exporter of OpenTelemetry itself pins a patch release of packages that BentoML and MLflow pin otherwise. What it
does is one request, and the messages are those of `opentelemetry-proto`, which MLflow needs anyway.
"""

import gzip
import logging
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from pydantic import AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fatescope.environment import wrong_variables
from fatescope.errors import ParamsError

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which the specification asks for another try."""
FIRST_WAIT_S = 1.0
"""Before the second try; each wait is twice as long as the one before."""


def _parse_headers(value: object) -> object:
    if not isinstance(value, str):
        return value
    headers = {}
    for entry in filter(None, (part.strip() for part in value.split(","))):
        name, equals, text = entry.partition("=")
        if not equals or not name.strip():
            raise ValueError("not a list of NAME=VALUE, separated by commas")
        headers[name.strip()] = unquote(text.strip())
    return headers


class TracingSettings(BaseSettings):
    """Where traces go: the variables that OpenTelemetry names. Without an address there are none."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True, populate_by_name=True
    )

    endpoint: Annotated[str | None, Field(pattern=r"^https?://[^/]", alias="OTEL_EXPORTER_OTLP_ENDPOINT")] = None
    """Address of an OpenTelemetry collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added. Without it, and
    without the next one, nothing is traced."""
    traces_endpoint: Annotated[
        str | None, Field(pattern=r"^https?://[^/]", alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ] = None
    """The whole address that takes traces, where it is another one."""
    headers: Annotated[
        dict[str, str],
        NoDecode,
        BeforeValidator(_parse_headers),
        Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")),
    ] = {}
    """Headers for the collector, `NAME=VALUE` separated by commas, for example with its key."""
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ),
    ] = 10.0
    """Seconds after which spans that the collector does not take are given up."""
    compression: Annotated[
        Literal["none", "gzip"],
        Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION")),
    ] = "none"
    """How spans are sent."""
    certificate: Annotated[
        Path | None,
        Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")),
    ] = None
    """PEM of the authorities that the certificate of the collector is checked with; without it, those of the system."""
    protocol: Annotated[
        Literal["http/protobuf"],
        Field(validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")),
    ] = "http/protobuf"
    """The only protocol that is spoken; collectors have it at port 4318, not 4317."""
    exporter: Annotated[Literal["otlp", "none"], Field(alias="OTEL_TRACES_EXPORTER")] = "otlp"
    """`none` traces nothing, although there is an address."""
    disabled: Annotated[bool, Field(alias="OTEL_SDK_DISABLED")] = False
    """`true` does the same."""
    sampler: Annotated[
        Literal[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ],
        Field(alias="OTEL_TRACES_SAMPLER"),
    ] = "parentbased_always_on"
    """Which requests are traced: all, none, or a share of them. `parentbased_` ones do as a client asks that has a
    trace of its own (header `traceparent`)."""
    share: Annotated[float | None, Field(ge=0, le=1, alias="OTEL_TRACES_SAMPLER_ARG")] = None
    """The share of requests for the samplers `traceidratio`, for example `0.01`."""

    @classmethod
    def read(cls) -> Self:
        """Read the settings from the environment; raises ParamsError with one line per invalid variable."""
        try:
            settings = cls()
        except ValidationError as error:
            # The first of two, whichever was set. Headers hold keys.
            raise wrong_variables(
                error,
                lambda name: name if name in os.environ else name.replace("_TRACES", ""),
                secret={"OTEL_EXPORTER_OTLP_TRACES_HEADERS"},
            ) from None
        if settings.address and settings.sampler.endswith("traceidratio") and settings.share is None:
            raise ParamsError(f"OTEL_TRACES_SAMPLER={settings.sampler}: set OTEL_TRACES_SAMPLER_ARG to a share, 0 to 1")
        return settings

    @property
    def address(self) -> str | None:
        """Return where spans are sent to, None where there is no tracing."""
        if self.disabled or self.exporter == "none":
            return None
        return self.traces_endpoint or (self.endpoint and f"{self.endpoint.rstrip('/')}/v1/traces")


class Exporter(SpanExporter):
    """Sends spans to the collector of `settings`; belongs to the thread that collects them, not to requests."""

    def __init__(self, settings: TracingSettings) -> None:
        assert settings.address is not None
        self._address, self._settings = settings.address, settings
        self._context = None
        if self._address.startswith("https:"):
            self._context = ssl.create_default_context(cafile=settings.certificate)
        self._ended, self._failing = threading.Event(), False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, again for a while if the collector is busy; a failure is logged once until it is over."""
        body = encode(spans).SerializeToString()
        headers = {"Content-Type": "application/x-protobuf", **self._settings.headers}
        if self._settings.compression == "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        request = urllib.request.Request(self._address, body, headers)  # noqa: S310  see the settings
        deadline, wait_s = time.monotonic() + self._settings.timeout_s, FIRST_WAIT_S
        while True:
            remaining_s = deadline - time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=max(remaining_s, 0.1), context=self._context):  # noqa: S310  the operator's own collector
                    if self._failing:
                        log.info("traces reach the collector again")
                    self._failing = False
                    return SpanExportResult.SUCCESS
            except urllib.error.HTTPError as error:
                again, reason = error.code in RETRIED, f"it answers {error.code}"
                error.close()
            except OSError as error:
                again, reason = True, str(error)
            if not again or wait_s >= remaining_s or self._ended.wait(wait_s):
                break
            wait_s *= 2
        if not self._failing:
            log.warning("traces are lost: %s: %s", self._address, reason)
        self._failing = True
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Try no more than once from now on."""
        self._ended.set()


def encode(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Return the message with spans of one process, which share their resource and their instrumentation."""
    scope = spans[0].instrumentation_scope
    named = InstrumentationScope(name=scope.name, version=scope.version or "") if scope else InstrumentationScope()
    group = ScopeSpans(scope=named, spans=[_encode(span) for span in spans])
    resource = Resource(attributes=_attributes(spans[0].resource.attributes))
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[group])])


def _encode(span: ReadableSpan) -> Span:
    own = span.get_span_context()
    assert own is not None
    return Span(
        trace_id=own.trace_id.to_bytes(16, "big"),
        span_id=own.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent.span_id.to_bytes(8, "big") if span.parent else b"",
        trace_state=own.trace_state.to_header(),
        flags=int(own.trace_flags),
        name=span.name,
        # Theirs begins with the kind that is not known.
        kind=Span.SpanKind.ValueType(span.kind.value + 1),
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_attributes(span.attributes or {}),
        status=Status(code=Status.StatusCode.ValueType(span.status.status_code.value)),
    )


def _attributes(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in attributes.items()]


def _value(value: object) -> AnyValue:
    # A bool is an int to Python.
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=str(value))
