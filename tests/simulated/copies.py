"""Copies of a daemon's state, and its canonical form, by which equal states are recognized.

The state of `backends.gossip.core` is plain data, so any moment of a run can be kept and gone on
from.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any
from weakref import WeakSet

import msgspec

from rqdisco.backends.gossip.core.deltas import PullJob
from rqdisco.backends.gossip.core.messages import VERBS, Delta, encode_message
from rqdisco.backends.gossip.core.state import Continuation, Peer, State

# Numbers of sends, writes, timers and calls are issued from here on, so that they differ from all
# other numbers in a state: versions are higher, counts lower.
FIRST_NUMBER = 500_000_000_000
FIRST_CALL = 600_000_000_000
LAST_NUMBER = 700_000_000_000

# What only people read (logs, metrics, the list of peers), and what is written in another way.
_UNUSED: dict[type, set[str]] = {
    State: {"config", "effects", "last_number", "agreed_on", "unreplicated", "unreplicated_grants", "timers"},
    Peer: {"last_error", "clock_offset_ms", "differences", "differing_exchanges"},
}
# What is found by number, so that the order in which it began means nothing.
_UNORDERED = {"outgoing", "writes", "flushes", "reservations", "requests"}
_SAME = (int, float, str, bytes, bool, type(None), type, FunctionType, BuiltinFunctionType, BaseException)

_MESSAGES = {Delta, *(kind for kinds in VERBS.values() for kind in kinds)}

Memo = dict[int, Any]
Tokens = list[str | int]


def copy_of(value: Any, memo: Memo | None = None) -> Any:
    """Return a copy that shares nothing that may change. Structs never change."""
    return _copy(value, {} if memo is None else memo)


def _copy(value: Any, memo: Memo) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    copier = _COPIERS.get(kind)
    if copier is None:
        copier = _copier_of(kind)
        if copier is None:
            _IMMUTABLE.add(kind)
            return value
        _COPIERS[kind] = copier
    return copier(value, memo)


def _copier_of(kind: type) -> Callable[[Any, Memo], Any] | None:
    if issubclass(kind, (*_SAME, msgspec.Struct, tuple, frozenset)):
        return None
    names = _names_of(kind)
    return _copy_object if names is None else _attributes_copier(names)


def _names_of(kind: type) -> tuple[str, ...] | None:
    """Return the attributes of all objects of a class, None if each has its own."""
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind))
    return tuple(vars(kind)["__slots__"]) if "__slots__" in vars(kind) else None


def _copy_dict(value: Any, memo: Memo) -> Any:
    return {key: each if type(each) in _IMMUTABLE else _copy(each, memo) for key, each in value.items()}


def _copy_ordered(value: Any, memo: Memo) -> Any:
    return OrderedDict((key, _copy(each, memo)) for key, each in value.items())


def _copy_list(value: Any, memo: Memo) -> Any:
    return [each if type(each) in _IMMUTABLE else _copy(each, memo) for each in value]


def _copy_deque(value: Any, memo: Memo) -> Any:
    return deque(_copy(each, memo) for each in value)


def _copy_set(value: Any, _: Memo) -> Any:
    return set(value)


def _new_weak_set(_: Any, __: Memo) -> Any:
    return WeakSet()


def _copy_array(value: Any, _: Memo) -> Any:
    return value[:]


def _attributes_copier(names: tuple[str, ...]) -> Callable[[Any, Memo], Any]:
    def copy_attributes(value: Any, memo: Memo) -> Any:
        copied = memo.get(id(value))
        if copied is None:
            copied = memo[id(value)] = object.__new__(type(value))
            for name in names:
                each = getattr(value, name)
                setattr(copied, name, each if type(each) in _IMMUTABLE else _copy(each, memo))
        return copied

    return copy_attributes


def _copy_object(value: Any, memo: Memo) -> Any:
    copied = memo.get(id(value))
    if copied is None:
        copied = memo[id(value)] = object.__new__(type(value))
        attributes = copied.__dict__
        for name, each in value.__dict__.items():
            attributes[name] = each if type(each) in _IMMUTABLE else _copy(each, memo)
    return copied


_IMMUTABLE: set[type] = {int, float, str, bytes, bool, type(None), tuple}
_COPIERS: dict[type, Callable[[Any, Memo], Any]] = {
    dict: _copy_dict,
    OrderedDict: _copy_ordered,
    list: _copy_list,
    deque: _copy_deque,
    array: _copy_array,
    set: _copy_set,
    WeakSet: _new_weak_set,
}


class CanonicalForm:
    """A text that is equal for states that behave alike, and what their numbers are called in it.

    `names` are small numbers in the order in which the form mentions them. Times, versions and all
    orders are kept as they are, except the order of what is found by number.
    """

    def __init__(self, *parts: Any) -> None:
        tokens: Tokens = []
        seen: set[int] = set()
        for part in parts:
            _write(part, tokens, seen)
        self.names: dict[int, int] = {}
        names = self.names
        self.text = "\n".join(
            [each if type(each) is str else f"#{names.setdefault(int(each), len(names))}" for each in tokens]
        )


def _write(value: Any, tokens: Tokens, seen: set[int]) -> None:
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        writer = _WRITERS[kind] = _writer_of(kind)
    writer(value, tokens, seen)


def _writer_of(kind: type) -> Callable[[Any, Tokens, set[int]], None]:
    if kind in _MESSAGES:
        return _write_message
    return _write_text if issubclass(kind, (msgspec.Struct, BaseException)) else _objects_writer(kind)


def message_text(message: msgspec.Struct) -> str:
    """Return a text that is equal for equal messages; the `repr` of raw JSON is not."""
    return type(message).__name__ + encode_message(message).decode()


def _write_message(value: msgspec.Struct, tokens: Tokens, _: set[int]) -> None:
    tokens.append(message_text(value))


def _write_text(value: Any, tokens: Tokens, _: set[int]) -> None:
    tokens.append(repr(value))


def _write_int(value: int, tokens: Tokens, _: set[int]) -> None:
    if FIRST_NUMBER <= value < LAST_NUMBER:
        tokens.append(value)
    elif FIRST_NUMBER <= -value < LAST_NUMBER:
        # A request of a peer has the number of the message, negated.
        tokens += ("-", -value)
    else:
        tokens.append(repr(value))


def _write_all(value: Any, tokens: Tokens, seen: set[int]) -> None:
    tokens.append(f"[{len(value)}")
    for each in value:
        _write(each, tokens, seen)


def _write_set(value: Any, tokens: Tokens, _: set[int]) -> None:
    tokens.append(repr(sorted(value)))


def _write_function(value: Any, tokens: Tokens, _: set[int]) -> None:
    tokens.append(f"{value.__module__}.{value.__qualname__}")


def _write_nothing(value: Any, tokens: Tokens, _: set[int]) -> None:
    pass


def _write_dict(value: Any, tokens: Tokens, seen: set[int]) -> None:
    tokens.append(f"{{{len(value)}")
    for key, each in value.items():
        _write(key, tokens, seen)
        _write(each, tokens, seen)


def _write_unordered(value: dict[int, Any], tokens: Tokens, seen: set[int]) -> None:
    tokens.append(f"{{{len(value)}")
    entries = []
    for key, each in value.items():
        entry: Tokens = []
        _write(key, entry, seen)
        _write(each, entry, seen)
        entries.append(("\n".join([token if isinstance(token, str) else "#" for token in entry]), entry))
    entries.sort(key=_first)
    for _, entry in entries:
        tokens += entry


def _first(entry: tuple[str, Tokens]) -> str:
    return entry[0]


def _objects_writer(kind: type) -> Callable[[Any, Tokens, set[int]], None]:
    known, unused, name = _names_of(kind), _UNUSED.get(kind, set()), kind.__name__
    names = None if known is None else [each for each in known if each not in unused]

    def write_object(value: Any, tokens: Tokens, seen: set[int]) -> None:
        tokens.append(name)
        if id(value) in seen:
            if kind is Peer:
                tokens.append(value.key)
            return
        seen.add(id(value))
        for each in value.__dict__ if names is None else names:
            write = _write_unordered if kind is State and each in _UNORDERED else _write
            write(getattr(value, each), tokens, seen)
        if kind is State:
            _write_all(sorted(value.timers, key=_order), tokens, seen)

    return write_object


def _order(timer: tuple[float, int, Continuation]) -> tuple[float, int]:
    return timer[:2]


def _write_fields(value: Any, tokens: Tokens, seen: set[int]) -> None:
    for name in value.__struct_fields__:
        _write(getattr(value, name), tokens, seen)


_WRITERS: dict[type, Callable[[Any, Tokens, set[int]], None]] = {
    int: _write_int,
    tuple: _write_all,
    list: _write_all,
    deque: _write_all,
    dict: _write_dict,
    OrderedDict: _write_dict,
    set: _write_set,
    frozenset: _write_set,
    Continuation: _write_fields,
    PullJob: _write_fields,
    FunctionType: _write_function,
    WeakSet: _write_nothing,
    **dict.fromkeys((str, bytes, float, bool, type(None)), _write_text),
}
