"""What the service enters into the audit log (`fatescope.audit_log`), and what it looks after beside its requests.

Corrections are entered as they are stored, uses of keys once their hour is over. What cannot be written is kept and
tried again, and a worker that fails is a metric and an alert. Once a day the chain is verified, and what has been kept
for longer than the retention times is deleted (`fatescope.retention`).
"""

import logging
import threading
import time
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from fatescope import audit_log, audit_verification, retention
from fatescope.audit_log import AuditLogError
from fatescope.errors import FatescopeError
from service import background
from service.api.usage import Usage
from service.background import Worker
from service.inference import metrics
from service.inference.requester import key_name

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

INTERVAL_S = 10.0
DAY_S = 86_400.0
MAX_WAITING = 10_000
"""Corrections that wait for a log that cannot be written; the oldest are lost beyond them."""
ANYONE = "anyone"
"""Who sends a correction to a service without keys."""


_Act = tuple[str, dict[str, object], dict[str, object]]
"""Who, subject and evidence of a correction."""


class AuditTrail:
    """Writes to the audit log of a service; `close` ends it."""

    def __init__(self, folder: Path | None, usage: Usage | None, kept: retention.Kept) -> None:
        """`folder` None keeps no log; what is too old is deleted all the same."""
        self.folder, self._usage, self._kept = folder, usage, kept
        self._waiting = deque[_Act](maxlen=MAX_WAITING)
        self._daily = 0.0
        self._closed = threading.Event()
        self._worker = Worker("audit", INTERVAL_S, metrics.publish_worker)
        self._thread = background.start_thread(self._worker, self._work, self._closed)

    def enter_correction(self, correction: str, model: str, version: str, evidence: dict[str, object]) -> None:
        """Enter a correction, which is known by a number of its own: nothing here tells of which cell it is."""
        if self.folder is None:
            return
        act: _Act = (
            key_name() or ANYONE,
            {"model": model, "version": version, "correction": correction},
            evidence | {"at": datetime.now(UTC).isoformat(timespec="seconds")},
        )
        try:
            self._enter(*act)
        except AuditLogError as error:
            log.error("a correction is entered later: %s", error)  # noqa: TRY400  one line says it
            self._waiting.append(act)

    def _enter(self, who: str, subject: dict[str, object], evidence: dict[str, object]) -> None:
        audit_log.append(audit_log.CORRECTION, subject, evidence=evidence, who=who, folder=self.folder)

    def close(self) -> None:
        """Enter what waits, and stop."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            last = self._closed.is_set()
            self._tend()
            self._worker.succeed()
            if last:
                return
            self._closed.wait(INTERVAL_S)

    def _tend(self) -> None:
        while self._waiting:
            act = self._waiting[0]
            self._enter(*act)
            self._waiting.popleft()
        self._enter_uses()
        if time.monotonic() - self._daily >= DAY_S or not self._daily:
            # Before what is too old goes, and with it what somebody has changed of it.
            self._verify()
            retention.apply(self._kept)
            self._daily = time.monotonic()
        self._publish()

    def _enter_uses(self) -> None:
        if self._usage is None:
            return
        uses = self._usage.take_finished()
        if self.folder is None:
            return
        while uses:
            use = uses[0]
            content = asdict(use)
            hour = datetime.fromtimestamp(content.pop("hour"), UTC).isoformat(timespec="minutes")
            name = content.pop("key")
            try:
                audit_log.append(
                    audit_log.KEY_USE, {"key": name, "hour": hour}, evidence=content, who=name, folder=self.folder
                )
            except FatescopeError:
                self._usage.put_back(uses)
                raise
            uses.pop(0)

    def _verify(self) -> None:
        if self.folder is None or audit_log.read_head(self.folder) is None:
            return
        damage = audit_verification.verify(self.folder).damage
        metrics.AUDIT_INTACT.set(damage is None)
        if damage:
            log.error("%s: line %d: %s", self.folder / audit_log.FILE, damage.line, damage.reason)

    def _publish(self) -> None:
        head = audit_log.read_head(self.folder) if self.folder else None
        if head:
            metrics.AUDIT_ENTRIES.set(head.seq)
            metrics.AUDIT_HEAD.set(int(head.hash[: audit_verification.MIN_DIGITS], 16))
