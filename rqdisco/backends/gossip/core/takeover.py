"""Become the owner of the IDs of a daemon that is gone for good (R7)."""

from __future__ import annotations

from rqdisco.backends.gossip.core import decide, own_records, writes
from rqdisco.backends.gossip.core.state import Continuation, State, ignore, then
from rqdisco.core import records


def resume(state: State) -> None:
    """Finish takeovers that an earlier start, or an older disk, left incomplete. A daemon that hands
    over its own IDs leaves them to its successor, which owns those IDs as well.
    """
    if state.is_handing_over and decide.objection(state) is not None:
        return
    for member in state.members.all:
        is_successor = member.state in ("forgotten", "drained") and member.successor == state.own
        if is_successor and member.incarnation not in state.taken_over:
            state.taken_over.add(member.incarnation)
            take_over(state, member.incarnation, then(ignore), is_lost=member.state == "forgotten")


def take_over(state: State, incarnation: str, on_done: Continuation, *, is_lost: bool) -> None:
    """Make this daemon the owner of all records of another, in parts. The outcome is their number, or
    StoreUnavailable.
    """
    state.taking_over += 1
    _take_part(state, None, incarnation, 0, 0, is_lost, on_done)


def _take_part(
    state: State,
    outcome: Exception | None,
    incarnation: str,
    position: int,
    count: int,
    is_lost: bool,
    on_done: Continuation,
) -> None:
    if outcome is not None:
        _taken_over(state, outcome, incarnation, count, on_done)
        return
    keys, after = state.cursors.keys_of_owner(incarnation, position)
    changes = []
    for key in keys:
        record = state.store.newest(key.decode())
        if record is not None and record.owner == incarnation:
            record = record if is_lost else records.with_grant_answered(record)
            changes.append(state.store.put(own_records.with_this_owner(state, record, lost=is_lost)))
    count += len(changes)
    if after:
        next_part = then(_take_part, incarnation, after, count, is_lost, on_done)
    else:
        next_part = then(_taken_over, incarnation, count, on_done)
    if changes:
        writes.write(state, changes, next_part)
    else:
        state.resume_soon(next_part)


def _taken_over(state: State, outcome: Exception | None, incarnation: str, count: int, on_done: Continuation) -> None:
    state.taking_over -= 1
    if outcome is not None:
        state.taken_over.discard(incarnation)
        state.finished_for = None
    elif count:
        state.log("info", "took over IDs", of=incarnation, count=count)
    state.resume(on_done, count if outcome is None else outcome)
