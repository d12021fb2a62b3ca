"""A run step by step: each input of each daemon, and its effects, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.effects import Log, Respond, Send, Wake
from rqdisco.backends.gossip.core.inputs import Answered, Received, Ticked
from rqdisco.backends.gossip.core.messages import Digest, Member
from rqdisco.storage.memory import Change
from tests.simulated.timeline import HasTime, Trace

_WIDTH = 400
_LEFT_OUT = ("features", "wall_ms", "link", "seconds")


class Steps:
    """The steps of a run, from a moment up to another one, beside the events of its trace. Those
    that change nothing are counted, unless `shows_all`.
    """

    def __init__(self, begin: float = 0.0, until: float = 1e9, *, shows_all: bool = False) -> None:
        self.lines: list[str] = []
        self.clock: HasTime
        self.trace: Trace
        self._begin, self._until, self._shows_all = begin, until, shows_all
        self._traced = self._left_out = 0

    def step(self, host: str, given: Any, effects: Sequence[Any]) -> None:
        """A daemon had an input, and these effects follow."""
        events = self.trace.lines[self._traced :]
        self._traced += len(events)
        now = self.clock.now
        if not self._begin <= now <= self._until:
            return
        if not (self._shows_all or events) and _changes_nothing(given, effects):
            self._left_out += 1
            return
        self._count_left_out()
        self.lines += [_event(line) for line in events]
        self.lines.append(f"{now:9.3f} {host} <- {describe(given)}")
        self.lines += [f"{'':9} {host} -> {describe(each)}" for each in effects if not isinstance(each, Wake)]

    def _count_left_out(self) -> None:
        if self._left_out:
            self.lines.append(f"{'':9}   ({self._left_out} steps that change nothing)")
            self._left_out = 0

    def end(self) -> None:
        """Add the last events of the trace."""
        self._count_left_out()
        self.lines += [_event(line) for line in self.trace.lines[self._traced :]]


def _event(line: str) -> str:
    return f"{line[:9]}   {line[10:]}"


def _changes_nothing(given: Any, effects: Sequence[Any]) -> bool:
    """Report whether a step only exchanges digests."""
    if isinstance(given, Received) and given.verb == "digest":
        return all(isinstance(each, (Wake, Respond)) for each in effects)
    if isinstance(given, Ticked) or (isinstance(given, Answered) and isinstance(given.message, Digest)):
        return all(isinstance(each, Wake) or (isinstance(each, Send) and each.verb == "digest") for each in effects)
    return False


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
        if field.default_factory is not msgspec.NODEFAULT:
            is_usual = each == field.default_factory()
        else:
            is_usual = not field.required and each == field.default
        if not is_usual and field.name not in _LEFT_OUT:
            shown.append(f"{field.name}={_value(each)}")
    return " ".join(shown)


def _value(value: Any) -> str:
    text = next((show(value) for kind, show in _SHOW if isinstance(value, kind)), None)
    return str(value) if text is None else text


def _member(member: Member) -> str:
    successor = f" to {member.successor}" if member.successor else ""
    return f"{member.name} {member.incarnation} {member.state}{successor}"


_SHOW: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (Change, lambda change: change.line.decode()),
    (msgspec.Raw, lambda raw: bytes(raw).decode()),
    (Member, _member),
    (msgspec.Struct, lambda struct: f"{type(struct).__name__}({_fields(struct)})"),
    ((list, tuple), lambda values: f"[{', '.join(map(_value, values))}]"),
    (Exception, lambda error: f"{type(error).__name__}({error})"),
)
