"""Formats and writes the log: text on a terminal, otherwise one JSON object per line."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from rqdisco.core.escaping import escape_untrusted, escape_untrusted_json
from rqdisco.service.config import LogLevelName

BACKLOG_BYTES = 1 << 20
_RETRY_SECONDS = 0.1
_OWN = ("rqdisco.",)
_LOUD = frozenset({"warn", "error", "critical"})
# So many are formatted even before they are flushed.
_MOST_EVENTS = 1000
_encoder = msgspec.json.Encoder(enc_hook=repr)

Schedule = Callable[[float, Callable[[], None]], object]


class Output(Protocol):
    """The destination of log lines."""

    def write(self, data: bytes) -> int:
        """Write as much of `data` as possible without blocking; return the number of bytes written.
        Raises OSError.
        """


class Descriptor:
    """An open file, pipe or terminal. A reader that stops reading must not block the daemon
    (P4).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        # A pipe that is ready is only guaranteed to accept this much.
        self._most = None if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF

    def write(self, data: bytes) -> int:
        return os.write(self._fd, data[: self._most]) if self._poll.poll(0) else 0


class Discard:
    """An output that discards everything."""

    def write(self, data: bytes) -> int:
        return len(data)


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line.

    Events are collected until `schedule`, which runs a call after a number of seconds, flushes
    them, so that the requests that cause them are answered first. Warnings and worse are written at
    once. While the output accepts nothing, lines are kept up to a limit; further ones are dropped
    and counted. Events below the level `least` are not written.
    """

    def __init__(self, output: Output, schedule: Schedule, *, as_json: bool, least: LogLevelName = "debug") -> None:
        self._output = output
        self._least = LogLevel.levelWithName(least)
        self._schedule = schedule
        self._encode = _as_json if as_json else _as_text
        self._events: list[LogEvent] = []
        self._backlog = b""
        # The number of lines dropped, and when the last one was.
        self._dropped = 0
        self._dropped_at = 0.0
        self._scheduled = self._is_over = False

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] < self._least:
            return
        if len(self._backlog) > BACKLOG_BYTES:
            self._dropped += 1
            self._dropped_at = event["log_time"]
            return
        self._events.append(event)
        if self._is_over or event["log_level"].name in _LOUD:
            self.flush()
            return
        if self._backlog or len(self._events) >= _MOST_EVENTS:
            self._format()
        if not self._scheduled:
            self._flush_in(0)

    def end(self) -> None:
        """Write the collected lines, and from now on each at once: nothing is scheduled any more."""
        self._is_over = True
        self.flush()

    def flush(self) -> None:
        """Write the collected lines. Errors are ignored: the daemon serves on without a log."""
        self._format()
        data, self._backlog = self._backlog, b""
        with suppress(OSError):
            while data and (written := self._output.write(data)):
                data = data[written:]
            if self._dropped and not data:
                data, self._dropped = (
                    self._encode([_own_event(f"{self._dropped} log lines dropped", self._dropped_at)]),
                    0,
                )
            self._backlog = data
            if data and not self._scheduled:
                self._flush_in(_RETRY_SECONDS)

    def _format(self) -> None:
        """Turn the collected events into lines."""
        events, self._events = self._events, []
        try:
            self._backlog += self._encode(events)
        except Exception:
            # A value that cannot be shown must not hide the other lines.
            for event in events:
                self._format_alone(event)

    def _format_alone(self, event: LogEvent) -> None:
        try:
            self._backlog += self._encode([event])
        except Exception as error:
            namespace, kind = event.get("log_namespace", ""), type(error).__name__
            self._backlog += self._encode(
                [_own_event(f"an event of {namespace} cannot be shown: {kind}", event["log_time"])]
            )

    def _flush_in(self, seconds: float) -> None:
        self._scheduled = True
        self._schedule(seconds, self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()


def _own_event(text: str, at: float) -> LogEvent:
    """A warning of the log about itself."""
    return {
        "log_time": at,
        "log_level": LogLevel.warn,
        "log_namespace": __name__,
        "log_format": text.replace("{", "{{").replace("}", "}}"),
    }


def _fields(event: LogEvent) -> dict[str, object]:
    if not event.get("log_namespace", "").startswith(_OWN):
        return {}
    return {name: value for name, value in event.items() if value is not None and name[:4] != "log_"}


def _message(event: LogEvent) -> str:
    text: str = event.get("log_format") or ""
    if "{" in text or not text:
        text = formatEvent(event)
    failure = event.get("log_failure")
    return escape_untrusted(text) if failure is None else f"{escape_untrusted(text)}\n{failure.getTraceback()}"


def _time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _as_json(events: Iterable[LogEvent]) -> bytes:
    lines = [
        {
            "time": _time(int(event["log_time"] * 1000)),
            "level": event["log_level"].name,
            "source": event.get("log_namespace", ""),
            "event": _message(event),
            **_fields(event),
        }
        for event in events
    ]
    return escape_untrusted_json(_encoder.encode_lines(lines))


def _as_text(events: Iterable[LogEvent]) -> bytes:
    return "".join(map(_text_line, events)).encode(errors="backslashreplace")


def _text_line(event: LogEvent) -> str:
    fields = "".join(f" {name}={escape_untrusted(str(value))}" for name, value in _fields(event).items())
    time = _time(int(event["log_time"] * 1000))
    return f"{time} {event['log_level'].name:5} {_message(event)}{fields}\n"
