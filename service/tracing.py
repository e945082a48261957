"""Traces of requests, from the gateway to the engine: which part of a slow answer took how long.

A trace is a tree of spans. `POST /classify` is the whole request, in it `decode` reads its files, `batch.wait` is the
time until its cells are sent, `runner.call` the time until their batch is answered, `inference` the network alone (in
the runner, which is told by `traceparent` whose call it is), and `respond` writes the answer. Attributes are the
identifier of the request, the task, the version and numbers of cells: never a name of a file or of a sample, never a
message, which may have one, and never pixels.

Without a collector in the environment there is no tracer, and each of the functions here returns at once. So it does
where the sampler leaves a request out: then nothing is current.
"""

import atexit
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = [
    "Queued",
    "Request",
    "Span",
    "annotate",
    "current",
    "is_on",
    "make_current",
    "run_for",
    "span",
    "start",
    "stop",
    "traceparent",
    "use",
]

PREFIX = "fatescope."
"""Of the names of attributes that OpenTelemetry has none for."""
_HEADERS = frozenset({b"traceparent", b"tracestate"})

_current: ContextVar[Span | None] = ContextVar("fatescope_span", default=None)
"""The span that what runs now belongs to; None where it is not traced. Our own: to attach a context of OpenTelemetry
takes longer."""
_tracer: Tracer | None = None
_finish: Callable[[], None] = lambda: None  # noqa: E731  until `use`
_propagator = TraceContextTextMapPropagator()


def start(program: str) -> None:
    """Trace the requests of this process from now on, if the environment names a collector; raises ParamsError."""
    from service import otlp  # noqa: PLC0415  a tenth of a second, for which a process that is not traced has no reason

    settings = otlp.TracingSettings.read()
    if settings.address is None:
        return
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415  as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  as above
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  as above

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first; the provider reads the variables of the sampler.
    resource = Resource({"service.name": program}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = otlp.Exporter(settings)
    provider.add_span_processor(BatchSpanProcessor(exporter))

    def finish() -> None:
        # First, so that a collector that is away does not delay the end.
        exporter.shutdown()
        provider.shutdown()

    use(provider, finish)
    # A runner has no other end.
    atexit.register(stop)


def use(provider: trace.TracerProvider | None, finish: Callable[[], None] = lambda: None) -> None:
    """Make spans with a provider, None for no more; `stop` calls `finish`."""
    global _tracer, _finish  # noqa: PLW0603  one for the process, which the hot path compares with None
    _tracer = None if provider is None else provider.get_tracer("fatescope")
    _finish = finish


def stop() -> None:
    """Send what is left, and trace no more."""
    _finish()
    use(None)


def is_on() -> bool:
    """Return whether this process traces any requests."""
    return _tracer is not None


def current() -> Span | None:
    """Return the span that what runs now belongs to, None where it is not traced."""
    return None if _tracer is None else _current.get()


def annotate(**attributes: str | int) -> None:
    """Say something of the current span."""
    if (span := current()) is not None:
        for name, value in attributes.items():
            span.set_attribute(PREFIX + name, value)


def traceparent() -> str | None:
    """Return the current span as the W3C spells it for another process, None where nothing is traced."""
    span = current()
    return None if span is None else _spell(span)


def _spell(span: Span) -> str:
    own = span.get_span_context()
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"


def span(name: str, **attributes: str | int) -> AbstractContextManager[object]:
    """Return a block that is a span of the request that it is for."""
    parent = current()
    return _NOTHING if parent is None else _Block(_start(name, parent, attributes))


def run_for(caller: str | None, name: str, **attributes: str | int) -> AbstractContextManager[object]:
    """Return a block that is a span of the request of another thread or process, which `traceparent` has named."""
    if _tracer is None or caller is None:
        return _NOTHING
    context = _propagator.extract({"traceparent": caller})
    started = _tracer.start_span(name, context, attributes=_named(attributes))
    return _Block(started) if started.is_recording() else _NOTHING


def _start(name: str, parent: Span, attributes: dict[str, str | int], kind: SpanKind = SpanKind.INTERNAL) -> Span:
    # There is one, since there is a parent.
    assert _tracer is not None
    return _tracer.start_span(name, trace.set_span_in_context(parent, Context()), kind, _named(attributes))


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    return {PREFIX + name: value for name, value in attributes.items()}


class _Nothing:
    """The block of what is not traced."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NOTHING = _Nothing()


class _Block:
    """A block that is a span, and the current one."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self._span)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        assert self._token is not None
        _current.reset(self._token)
        _end(self._span, kind)


def _end(span: Span, error: type[BaseException] | None) -> None:
    if error is not None:
        # Its class alone: the message may have the name of a file.
        span.set_attribute("error.type", error.__name__)
        span.set_status(StatusCode.ERROR)
    span.end()


class Request:
    """The span of a whole request."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span, self._token = span, _current.set(span)

    @classmethod
    def begin(cls, method: str, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Self | None:
        """Begin the span of a request; None where it is not traced."""
        if _tracer is None:
            return None
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _HEADERS}
        context = _propagator.extract(carrier) if carrier else Context()
        span = _tracer.start_span(method, context, SpanKind.SERVER)
        if not span.is_recording():
            return None
        span.set_attributes({PREFIX + "request_id": request_id, "http.request.method": method})
        return cls(span)

    def end(self, method: str, route: str, status: int) -> None:
        """End it with the path as its route spells it, and the status of the response."""
        _current.reset(self._token)
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        # What a client did wrong is no error of the server.
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Queued:
    """The spans of cells that wait for a batch, and then for its answer."""

    __slots__ = ("_parent", "_span")

    def __init__(self, parent: Span, cells: int) -> None:
        self._parent = parent
        self._span = _start("batch.wait", parent, {"cells": cells})

    def sent(self, cells: int) -> Span:
        """Note that a batch of so many cells was sent, these among them, and return the span of that call."""
        self._span.end()
        self._span = _start("runner.call", self._parent, {"cells": cells}, SpanKind.CLIENT)
        return self._span

    def end(self, error: type[BaseException] | None = None) -> None:
        """Note that they have their answer, or what has become of them."""
        _end(self._span, error)


def make_current(span: Span | None) -> None:
    """Make a span that of the task of asyncio that this is called in, until its end."""
    if _tracer is not None:
        _current.set(span)
