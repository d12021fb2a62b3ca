"""How events are written: text for people on a terminal, one JSON object a line for everything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TextIO

import msgspec
from twisted.logger import ILogObserver, formatEvent
from zope.interface import implementer

_OWN = ("rqdisco.",)
_LOUD = ("warn", "error", "critical")


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as one line.

    Lines are collected for as long as `soon` allows, since a write for each of many registrations costs more than
    the rest of logging them; what is a warning or worse goes out at once.
    """

    def __init__(self, out: TextIO, soon: Callable[[Callable[[], None]], Any], *, as_json: bool) -> None:
        self._out = out
        self._soon = soon
        self._encode = _as_json if as_json else _as_text
        self._lines: list[str] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self._lines.append(self._encode(event))
        if len(self._lines) == 1:
            self._soon(self.flush)
        if event["log_level"].name in _LOUD:
            self.flush()

    def flush(self) -> None:
        """Write what was collected. A log that cannot be written is no reason to stop serving."""
        lines, self._lines = self._lines, []
        with suppress(OSError, ValueError):
            self._out.write("".join(lines))
            self._out.flush()


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    if not event.get("log_namespace", "").startswith(_OWN):
        return {}
    return {name: value for name, value in event.items() if not name.startswith("log_") and value is not None}


def _message(event: dict[str, Any]) -> str:
    text: str = event.get("log_format") or ""
    if "{" in text or not text:
        text = formatEvent(event)
    failure = event.get("log_failure")
    return text if failure is None else f"{text}\n{failure.getTraceback()}"


def _time(event: dict[str, Any]) -> str:
    seconds, rest = divmod(event["log_time"], 1)
    return f"{_second(int(seconds))}.{int(rest * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _as_json(event: dict[str, Any]) -> str:
    line = {
        "time": _time(event),
        "level": event["log_level"].name,
        "source": event.get("log_namespace", ""),
        "event": _message(event),
        **_fields(event),
    }
    return msgspec.json.encode(line, enc_hook=repr).decode() + "\n"


def _as_text(event: dict[str, Any]) -> str:
    fields = "".join(f" {name}={value}" for name, value in _fields(event).items())
    return f"{_time(event)} {event['log_level'].name:5} {_message(event)}{fields}\n"
