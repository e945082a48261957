"""Receive the messages of Alertmanager over HTTP, and count what became of them."""

import json
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from fatescope.errors import FatescopeError

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 1_000_000

REGISTRY = CollectorRegistry()
MESSAGES = Counter(
    "fatescope_incidents_messages",
    "Messages of Alertmanager, by outcome: handled, refused or failed.",
    ["outcome"],
    registry=REGISTRY,
)
SUCCESS = Gauge(
    "fatescope_incidents_last_success_timestamp_seconds",
    "Time of the last message that was handled; the start counts as one.",
    registry=REGISTRY,
)
_OUTCOMES = {200: "handled", 400: "refused", 503: "failed"}


class IncidentError(FatescopeError):
    """An alert could not be handled now; Alertmanager sends it again."""


def start_metrics() -> None:
    """Set the metrics to what they are before the first message."""
    SUCCESS.set_to_current_time()
    for outcome in _OUTCOMES.values():
        MESSAGES.labels(outcome)  # from zero on, so that the first one is an increase


def make_handler(receive: Callable[[dict[str, Any]], object]) -> type[BaseHTTPRequestHandler]:
    """Return the handler for Alertmanager's requests.

    It responds with 200 when `receive` has handled the message, 400 if it is not a message of Alertmanager, and 503 if
    it has to be sent again.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Handle one message."""
            try:
                size = int(self.headers.get("Content-Length") or 0)
                # A negative size would read until the sender closes the connection.
                receive(json.loads(self.rfile.read(min(max(size, 0), _MAX_BODY_BYTES))))
                status = 200
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("not a message of Alertmanager: %s", error)
                status = 400
            except (httpx.HTTPError, OSError, IncidentError) as error:
                # Alertmanager sends the message again.
                log.warning("the incident could not be opened: %s", error)
                status = 503
            MESSAGES.labels(_OUTCOMES[status]).inc()
            if status == 200:
                SUCCESS.set_to_current_time()
            self.send_response(status)
            self.end_headers()

        def do_GET(self) -> None:
            """Return the metrics."""
            body = generate_latest(REGISTRY)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing for a request that was handled."""

    return Handler
