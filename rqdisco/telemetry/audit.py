"""The audit log: every event as one line of JSON in a file, in the order of publication.

A thread writes it a moment later, many lines at once, so that no request waits for it or is refused
because of it. Lines that cannot be written are kept up to a limit and retried; lost lines are
counted and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.escaping import escape_untrusted_json
from rqdisco.telemetry.audit_file import AuditFile
from rqdisco.telemetry.events import Event

MOST_BYTES = 4 << 20
_SOON = 0.05
_RETRY_SECONDS = 1.0

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class AuditLog(Service):
    """An observer of events.

    `in_thread` runs a blocking call and fires with its result. `wall_us` returns the wall clock in
    microseconds since 1970. `about` has the fields of the line for a start. `written` and `lost`
    count lines; `is_failing` is set while the last attempt to write failed.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        file: AuditFile,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        wall_us: Callable[[], int],
        about: Mapping[str, object],
    ) -> None:
        self._clock = clock
        self._file = file
        self._in_thread = in_thread
        self._wall_us = wall_us
        self._about = about
        self._lines: list[bytes] = []
        self._size = 0
        self._batch: list[bytes] = []
        self._dropped = 0
        self._is_busy = self._is_to_reopen = False
        self._timer: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self.written = self.lost = 0
        self.is_failing = False

    def __call__(self, event: Event) -> None:
        if event.audited:
            self._add(
                event.kind,
                event.outcome,
                api=event.api or None,
                discovery_id=event.id or None,
                addr=event.addr,
                client=event.client,
                token=event.token,
                request=event.request,
                why=event.why,
                **event.more,
            )

    def reopen(self) -> None:
        """Open the file by its name again, which log rotation may have given to another file."""
        self._is_to_reopen = True
        self._run_next()

    def startService(self) -> None:
        super().startService()
        self._add("start", "started", **self._about)

    def stopService(self) -> Deferred[None]:
        """Fire when all lines are written, or cannot be."""
        stopped: Deferred[None] = Deferred()
        if not self.running:
            stopped.callback(None)
            return stopped
        super().stopService()
        self._add("stop", "stopped")
        self._stopped = stopped
        self._run_next()
        return stopped

    def _add(self, kind: str, outcome: str, **fields: object) -> None:
        if self._size > MOST_BYTES:
            self._dropped += 1
            self.lost += 1
            return
        line = self._line(kind, outcome, fields)
        self._lines.append(line)
        self._size += len(line)
        if self._timer is None and not self._is_busy:
            self._timer = self._clock.callLater(_SOON, self._run_next)

    def _line(self, kind: str, outcome: str, fields: dict[str, object]) -> bytes:
        seconds, rest = divmod(self._wall_us(), 1_000_000)
        known = {name: value for name, value in fields.items() if value is not None}
        line = {"time": f"{_second(seconds)}.{rest:06}Z", "event": kind, "outcome": outcome, **known}
        return escape_untrusted_json(_encode(line)) + b"\n"

    def _run_next(self) -> None:
        """Start the thread's next task, if it is idle."""
        if self._is_busy:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        has_lines = bool(self._batch or self._lines)
        if self._is_to_reopen and (self.is_failing or not has_lines):
            self._is_to_reopen = False
            self._run(self._file.reopen, self._on_reopened)
        elif has_lines:
            # A failed batch is retried unchanged: part of it may be written.
            if not self._batch:
                self._batch, self._lines = self._lines, []
            lines = b"".join(self._batch)
            self._run(lambda: self._file.write(lines), lambda: self._on_written(len(lines)))
        elif self._stopped is not None:
            self._end()

    def _run(self, call: Callable[[], None], done: Callable[[], None]) -> None:
        self._is_busy = True
        self._in_thread(call).addCallbacks(lambda _: done(), self._on_failed).addErrback(self._on_bug)

    def _on_reopened(self) -> None:
        self._succeeded()
        self._log.info("audit log reopened")
        self._run_next()

    def _on_written(self, size: int) -> None:
        self.written += len(self._batch)
        self._batch, self._size = [], self._size - size
        self._succeeded()
        if self._dropped:
            self._add("audit", "lost", lines=self._dropped)
            self._dropped = 0
        if self._stopped is not None or self._is_to_reopen:
            self._run_next()
        elif self._lines and self._timer is None:
            # Waking the thread for a few lines costs more than writing many.
            self._timer = self._clock.callLater(_SOON, self._run_next)

    def _succeeded(self) -> None:
        self._is_busy = False
        if self.is_failing:
            self._log.warn("audit log recovered", lost=self.lost)
        self.is_failing = False

    def _on_failed(self, failure: Failure) -> None:
        failure.trap(OSError)
        self._is_busy = False
        if not self.is_failing:
            error = failure.value
            assert isinstance(error, OSError)
            self._log.error("audit log cannot be written: {why}", why=error.strerror or str(error))
        self.is_failing = True
        if self._stopped is not None:
            self._end()
        else:
            self._timer = self._clock.callLater(_RETRY_SECONDS, self._run_next)

    def _on_bug(self, failure: Failure) -> None:
        """Log an unexpected exception; it must not end the audit log."""
        self._log.failure("audit log failed", failure)
        self._on_failed(Failure(OSError("internal error")))

    def _end(self) -> None:
        assert self._stopped is not None
        left = len(self._batch) + len(self._lines)
        if left:
            self.lost += left
            self._log.error("end of audit log lost", lines=left)
        self._batch, self._lines = [], []
        stopped, self._stopped = self._stopped, None
        self._in_thread(self._file.close).addBoth(lambda _: stopped.callback(None))


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
