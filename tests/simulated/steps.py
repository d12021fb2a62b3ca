"""A run step by step: each input of each daemon, and its effects, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.effects import Log, Wake
from rqdisco.storage.memory import Change
from tests.simulated.timeline import HasTime, Trace

_WIDTH = 400


class Steps:
    """The steps of a run, from a moment up to another one, beside the events of its trace."""

    def __init__(self, begin: float = 0.0, until: float = 1e9) -> None:
        self.lines: list[str] = []
        self.clock: HasTime
        self.trace: Trace
        self._begin, self._until = begin, until
        self._traced = 0

    def step(self, host: str, given: Any, effects: Sequence[Any]) -> None:
        """A daemon had an input, and these effects follow."""
        events = self.trace.lines[self._traced :]
        self._traced += len(events)
        now = self.clock.now
        if not self._begin <= now <= self._until:
            return
        self.lines += [f"{line[:9]}   {line[10:]}" for line in events]
        self.lines.append(f"{now:9.3f} {host} <- {describe(given)}")
        self.lines += [f"{'':9} {host} -> {describe(each)}" for each in effects if not isinstance(each, Wake)]

    def end(self) -> None:
        """Add the last events of the trace."""
        self.lines += [f"{line[:9]}   {line[10:]}" for line in self.trace.lines[self._traced :]]


def describe(value: Any) -> str:
    """Return an input or an effect as text in one line, without what has its usual value."""
    if isinstance(value, Log):
        return f"Log {value.level}: {value.text.format(**value.fields)}"
    text = f"{type(value).__name__} {_fields(value)}".rstrip()
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


def _fields(value: msgspec.Struct) -> str:
    shown = []
    for field in msgspec.structs.fields(value):
        each = getattr(value, field.name)
        if each != field.default or field.required:
            shown.append(f"{field.name}={_value(each)}")
    return " ".join(shown)


def _value(value: Any) -> str:
    if isinstance(value, Change):
        return value.line.decode()
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}({_fields(value)})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Exception):
        return f"{type(value).__name__}({value})"
    return str(value)
