"""Rules of the core that can be turned off, to prove that a search would notice.

They differ from `rules`: the search keeps the steps of a daemon in a table and has neither transport
nor claims, so each replacement here is a function of the core that depends on nothing but the state.
R6 is in two parts, as the search can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.core import (
    barriers,
    decide,
    grants,
    own_records,
    pushes,
    queries,
    replies,
    routing,
    writes,
)
from rqdisco.backends.gossip.core.messages import Outcome
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State, ignore, then
from rqdisco.core.addresses import same_node
from rqdisco.core.records import Record, RegistrationOutcome
from rqdisco.storage.memory import Change


def _no_barrier(state: State, record: Record, purpose: str, on_done: Continuation) -> None:
    state.resume(on_done, None)


def _always_ready(state: State) -> bool:
    state.is_ready = True
    return True


def _own(state: State, record: Any) -> str:
    return state.own


def _taken_as_own(state: State, record: Record) -> Record:
    return replace(record, owner=state.own)


def _replicated_at_once(state: State, version: int, on_done: Continuation, *, is_grant: bool) -> None:
    state.resume(on_done, None)


def _no_push(state: State) -> None:
    pass


def _written_at_once(state: State, changes: Sequence[Change], on_done: Continuation) -> None:
    writes.write(state, changes, then(ignore))
    state.resume(on_done, None)


_on_behalf = routing._on_behalf


def _granted_on_behalf(state: State, request: ClientRequest, why: str, reply: Outcome) -> None:
    command: Any = request.command
    copy = queries.shown(state, command.id)
    if copy is not None and all(same_node(each.addr, command.node.addr) for each in copy.nodes):
        replies.reply(state, request, RegistrationOutcome(record=copy, listed=(command.node,), bootstrap="granted"))
    else:
        _on_behalf(state, request, why, reply)


# What replaces which functions, without a rule.
RULES: dict[str, Sequence[tuple[ModuleType, str, Any]]] = {
    "R1": [(queries, "owner", _own), (own_records, "viewed_as_own", _taken_as_own)],
    "R3": [(routing, "_on_behalf", _granted_on_behalf)],
    "R5b": [(barriers, "run", _no_barrier)],
    "R6 durable": [
        (grants, "writes", SimpleNamespace(write=_written_at_once)),
        (pushes, "await_replication", _replicated_at_once),
    ],
    "R6 acknowledged": [(pushes, "await_replication", _replicated_at_once), (pushes, "push", _no_push)],
    "R8": [(decide, "is_ready", _always_ready)],
}


@contextmanager
def without(rule: str | None) -> Iterator[None]:
    """Turn a rule off; None turns off nothing."""
    replaced: list[Callable[[], None]] = []
    try:
        for module, name, replacement in RULES[rule] if rule else ():
            replaced.append(_putter(module, name, getattr(module, name)))
            setattr(module, name, replacement)
        yield
    finally:
        for put_back in replaced:
            put_back()


def _putter(module: ModuleType, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(module, name, value)
