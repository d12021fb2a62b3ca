"""Become the owner of the IDs of a daemon that is gone for good (R7)."""

from __future__ import annotations

from rqdisco.backends.gossip.core import contacts, decide, own_records, writes
from rqdisco.backends.gossip.core.members import member_metadata
from rqdisco.backends.gossip.core.messages import Member
from rqdisco.backends.gossip.core.state import Continuation, State, ignore, then
from rqdisco.core import records
from rqdisco.core.errors import Undecided

_RETRY_SECONDS = 60.0


def resume(state: State) -> None:
    """Finish takeovers that an earlier start, or an older disk, left incomplete. A daemon that hands
    over its own IDs leaves them to its successor, which owns those IDs as well.
    """
    if state.fenced is not None or (state.is_handing_over and decide.objection(state) is not None):
        return
    for member in state.members.all:
        is_successor = member.state in ("forgotten", "drained") and member.successor == state.own
        if is_successor and member.incarnation not in state.takeovers_begun:
            take_over(state, member, then(ignore))


def take_over(state: State, gone: Member, on_done: Continuation) -> None:
    """Store that a member is gone for good; once that is durable, make this daemon the owner of all
    its records, in parts. The outcome is their number, or StoreUnavailable. If that is under way
    already, wait for it.
    """
    waiting = state.takeovers_running.setdefault(gone.incarnation, [])
    waiting.append(on_done)
    if len(waiting) == 1:
        state.takeovers_begun.add(gone.incarnation)
        writes.write_metadata(state, [member_metadata(gone)], then(_stored, gone))


def _stored(state: State, outcome: Exception | None, gone: Member) -> None:
    if outcome is None:
        # What was learned about it during the write counts as well, and was written later: write both.
        contacts.learn(state, state.members.learn([gone]))
    _take_next(state, outcome, gone.incarnation, 0, 0, gone.state == "forgotten")


def _take_next(
    state: State,
    outcome: Exception | None,
    incarnation: str,
    position: int,
    count: int,
    is_lost: bool,
) -> None:
    if outcome is None and state.fenced is not None:
        outcome = Undecided(state.fenced)
    if outcome is not None:
        _taken_over(state, outcome, incarnation, count)
        return
    try:
        _change_owner(state, incarnation, position, count, is_lost)
    except Exception:
        # A bug, which the caller logs. A repeated command tries again, and so does this daemon in a while.
        state.call_at(state.now.seconds + _RETRY_SECONDS, then(_retry, incarnation))
        for on_done in state.takeovers_running.pop(incarnation, ()):
            # In a turn of its own, since it may fail as well.
            state.call_at(state.now.seconds, then(_fail_waiting, on_done))
        raise


def _retry(state: State, _: int, incarnation: str) -> None:
    if incarnation not in state.takeovers_running:
        state.takeovers_begun.discard(incarnation)
        resume(state)


def _fail_waiting(state: State, _: int, on_done: Continuation) -> None:
    state.resume(on_done, Undecided("internal error"))


def _change_owner(state: State, incarnation: str, position: int, count: int, is_lost: bool) -> None:
    """Make this daemon the owner of the next records of an incarnation, from a position in its order."""
    keys, after = state.cursors.keys_of_owner(incarnation, position)
    changes = []
    for key in keys:
        record = state.store.newest(key.decode())
        if record is not None and record.owner == incarnation:
            record = record if is_lost else records.with_grant_answered(record)
            changes.append(state.store.put(own_records.with_this_owner(state, record, lost=is_lost)))
    count += len(changes)
    on_done = then(_take_next, incarnation, after, count, is_lost) if after else then(_taken_over, incarnation, count)
    if changes:
        writes.write(state, changes, on_done)
    else:
        state.resume_soon(on_done)


def _taken_over(state: State, outcome: Exception | None, incarnation: str, count: int) -> None:
    waiting = state.takeovers_running.pop(incarnation, [])
    if outcome is not None:
        state.takeovers_begun.discard(incarnation)
        state.finished_for = None
    elif count:
        state.log("info", "took over IDs", of=incarnation, count=count)
    for on_done in waiting:
        state.resume(on_done, count if outcome is None else outcome)
