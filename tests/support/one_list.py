"""The answers that a single list may give, asked one operation at a time.

It is written from the rules, independently of `rqdisco.core.records`, which it judges. It
distinguishes nodes by address only: it has no node IDs, no limit on the length of a list, and no
ownerless IDs (R7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from rqdisco.core import addresses
from tests.support.history import Answer, Operation

WINDOW = 30.0
# A history has few addresses, and compares them again and again.
same_node = cache(addresses.same_node)
# Times of a daemon are whole milliseconds.
_ROUNDING = 0.002


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of what is allowed: the retry window in seconds (R5a), and whether a request refused with 503
    may still take effect.

    A forwarded write may reach the owner after its client got 503, and a hint of it may have been
    stored. Where nothing is forwarded, `late=False` requires that a refused request took effect
    before its answer, or never, and finds more.

    `ages_known=False` means that the owner's host was booted anew, or the owner has changed: then a
    grant may count as older than the window at any time.

    `hidden` means that a claim is visible to its claimant alone until that reports itself (R5c).

    `renews` means that a removal spares an address that was listed when it arrived, if that
    registered again before it was removed (E5).

    `lists_after_removal=False` means that a removal is answered `True`: it shows the list of a later
    moment, which is recorded as a read.

    `passes_on` means that a grant whose answer was not sent may pass to the next node that asks
    (E3).

    `repeats` means that a registration may be made twice if a removal came between: the answer to
    its first write was lost, and its node is not listed when it is decided again (E2).
    """

    window: float = WINDOW
    late: bool = True
    ages_known: bool = True
    hidden: bool = True
    renews: bool = False
    lists_after_removal: bool = True
    passes_on: bool = False
    repeats: bool = False


class Grant(NamedTuple):
    """The address granted last, and the times between which that happened; `is_unheard` if no answer
    to it was sent.
    """

    addr: str
    earliest: float
    latest: float
    is_unheard: bool = False


class State(NamedTuple):
    """The list, in alphabetical order, and its state.

    `is_hidden` means that the leader claimed and has not reported itself yet, so that nobody else
    learns of it (R5c).

    `spared` are the removals, one bit each, that may have arrived before the registration that they
    would remove (R9).
    """

    nodes: tuple[str, ...] = ()
    grant: Grant | None = None
    leader: str | None = None
    confirmed: bool = False
    is_hidden: bool = False
    spared: int = 0

    def __str__(self) -> str:
        granted = "" if self.grant is None else f", {self.grant.addr} was told to bootstrap"
        leader = "" if self.leader is None else f", {self.leader} leads"
        return f"[{', '.join(self.nodes)}]{granted}{leader}"


class Point(NamedTuple):
    """The place of an operation in the order: between which times, and which removals of its
    address may be older.
    """

    earliest: float
    latest: float
    rules: Rules
    bit: int
    removals: int


def decisions(state: State, operation: Operation, point: Point) -> Iterator[tuple[Answer, State]]:
    """Yield every answer that the list may give to an operation, each with the state after it."""
    addr = operation.addr
    match operation.kind:
        case "read":
            yield _shown(state), state
        case "register" if state.is_hidden:
            # It is told to retry.
            return
        case "register":
            yield from _register(state, addr, point, is_heard=not (operation.is_open and point.rules.passes_on))
        case "hint":
            after = _with_node(state, addr, point)
            yield after.nodes, after
        case "remove":
            after = _without(state, addr, point)
            yield _shown(after) if point.rules.lists_after_removal else True, after
            if state.spared & point.bit:
                yield (
                    _shown(state) if point.rules.lists_after_removal else True,
                    state._replace(spared=state.spared & ~point.bit),
                )
        case "claim" if state.is_hidden and state.leader == addr:
            yield True, state._replace(grant=Grant(addr, point.earliest, point.latest))
            # Not all members were known to support hidden claims.
            yield False, state
        case "claim" if state.leader is not None or state.nodes:
            yield False, state
        case "claim":
            granted = _with_node(state, addr, point)
            grant = Grant(addr, point.earliest, point.latest)
            yield True, granted._replace(leader=addr, grant=grant)
            if point.rules.hidden:
                yield True, granted._replace(leader=addr, grant=grant, is_hidden=True)
        case "report":
            if state.is_hidden and state.leader != addr and state.leader is not None:
                state = _without(state, state.leader, point)
            yield True, _with_node(state, addr, point)._replace(leader=addr, confirmed=True, is_hidden=False)


def _shown(state: State) -> tuple[str, ...]:
    """Return the nodes that every client may learn of."""
    return tuple(node for node in state.nodes if not (state.is_hidden and node == state.leader))


def _register(state: State, addr: str, point: Point, *, is_heard: bool) -> Iterator[tuple[Answer, State]]:
    after = _with_node(state, addr, point)
    may_be_open, may_be_closed = _window(after, addr, point)
    granted = Grant(addr, point.earliest, point.latest, not is_heard)
    if may_be_open:
        assert after.grant is not None
        yield "alone", after._replace(grant=after.grant._replace(is_unheard=after.grant.is_unheard and not is_heard))
    if not may_be_closed:
        return
    if after.grant is not None and after.grant.is_unheard and after.grant.addr != addr and not after.confirmed:
        yield "alone", after._replace(grant=granted, spared=after.spared | point.removals)
    if len(after.nodes) > 1:
        yield after.nodes, after
    else:
        yield "alone", after._replace(grant=granted, spared=after.spared | point.removals)


def _window(state: State, addr: str, point: Point) -> tuple[bool, bool]:
    """Return whether the retry window of a node may be open, and whether it may be closed (R5a)."""
    grant, rules = state.grant, point.rules
    if grant is None or grant.addr != addr or state.confirmed:
        return False, True
    may_be_open = point.earliest - grant.latest < rules.window + _ROUNDING
    return may_be_open, not rules.ages_known or point.latest - grant.earliest > rules.window - _ROUNDING


def _with_node(state: State, addr: str, point: Point) -> State:
    """Return the state with `addr` listed in place of its former entries; a grant and the leader
    key move along.
    """
    if addr in state.nodes and not any(same_node(node, addr) for node in state.nodes if node != addr):
        return state._replace(spared=state.spared | point.removals) if point.rules.renews else state
    others = tuple(node for node in state.nodes if not same_node(node, addr))
    is_new = len(others) == len(state.nodes)
    grant, leader = state.grant, state.leader
    if grant is not None and same_node(grant.addr, addr):
        grant = grant._replace(addr=addr)
    if leader is not None and same_node(leader, addr):
        leader = addr
    spared = state.spared | (point.removals if is_new else 0)
    return State(tuple(sorted((*others, addr))), grant, leader, state.confirmed, state.is_hidden, spared)


def _without(state: State, addr: str, point: Point) -> State:
    if addr not in state.nodes:
        addr = addr.removeprefix("http://")
    spared = state.spared & ~point.removals & ~point.bit
    if addr not in state.nodes:
        return state._replace(spared=state.spared & ~point.bit)
    nodes = tuple(node for node in state.nodes if node != addr)
    if not nodes:
        return State(spared=spared)
    grant = None if state.grant is not None and state.grant.addr == addr else state.grant
    leader = None if state.leader == addr else state.leader
    return State(nodes, grant, leader, state.confirmed, state.is_hidden and leader is not None, spared)
