"""The barrier that an owner passes before it grants a bootstrap again (R5): every member stores the
record, and returns the hints that it has for the owner, until there are none left.
"""

from __future__ import annotations

import msgspec

from rqdisco.backends.gossip.core import contacts, hints, queries
from rqdisco.backends.gossip.core.messages import Barrier, Hints
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.state import Continuation, PendingBarrier, State, then
from rqdisco.core import codec
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Record

BARRIER_SECONDS = 3.0
_MAX_ROUNDS = 20
_MEMBERS_CHANGED = "the members changed during the barrier"


def run(state: State, record: Record, purpose: str, on_done: Continuation) -> None:
    """Ask all members at once. The outcome is None, or Undecided if one does not answer: then this
    daemon cannot do what `purpose` says, such as "create a name".
    """
    others = state.members.others
    unreachable = [state.members.label(each) for each in others if not queries.is_up(state, each.incarnation)]
    if unreachable:
        state.resume(on_done, Undecided(_cannot(purpose, ", ".join(unreachable))))
        return
    if not others:
        state.resume(on_done, None)
        return
    incarnations = [each.incarnation for each in others]
    # A daemon that stops gets no answer, but an error in the very call that would send.
    sent = dict.fromkeys(incarnations, 0)
    barrier = PendingBarrier(state.next_number(), record, frozenset(incarnations), on_done, sent, purpose)
    state.barriers[record.id] = barrier
    for incarnation in incarnations:
        if state.barriers.get(record.id) is barrier:
            _ask(state, barrier, incarnation, "", 0, 1)


def abandon(state: State, discovery_id: str) -> None:
    """Give a barrier up; nothing is resumed."""
    barrier = state.barriers.pop(discovery_id, None)
    if barrier is not None:
        for number in barrier.sent.values():
            contacts.abandon(state, number)


def _ask(state: State, barrier: PendingBarrier, incarnation: str, of: str, added: int, attempt: int) -> None:
    record = barrier.record
    peer = state.peers.get(incarnation)
    if attempt > _MAX_ROUNDS or peer is None:
        why = _MEMBERS_CHANGED if peer is None else "a peer has too many hints"
        _fail(state, record.id, why)
        return
    line = msgspec.Raw(codec.encode_record(record))
    message = Barrier(owner=record.owner, record=line, of=of, added=added)
    on_done = then(_answered, record.id, incarnation, attempt)
    barrier.sent[incarnation] = contacts.send(state, peer, "barrier", message, BARRIER_SECONDS, on_done)


def _answered(state: State, outcome: Hints | PeerError, discovery_id: str, incarnation: str, attempt: int) -> None:
    barrier = state.barriers.get(discovery_id)
    if barrier is None or incarnation not in barrier.sent:
        return
    if isinstance(outcome, PeerError):
        member = state.members.get(incarnation)
        name = incarnation if member is None else state.members.label(member)
        why = f": {contacts.error_text(outcome)}" if contacts.is_refusal(outcome) else ""
        _fail(state, discovery_id, _cannot(barrier.purpose, f"{name}{why}"))
    elif outcome.hints:
        on_done = then(_added, barrier.number, discovery_id, incarnation, outcome.of, attempt)
        try:
            hints.add(state, incarnation, outcome.of, outcome.hints, on_done)
        except StoreUnavailable as error:
            _fail(state, discovery_id, error.reason)
    else:
        del barrier.sent[incarnation]
        if not barrier.sent:
            _finish(state, barrier)


def _added(
    state: State,
    outcome: int | Exception,
    number: int,
    discovery_id: str,
    incarnation: str,
    of: str,
    attempt: int,
) -> None:
    barrier = state.barriers.get(discovery_id)
    if barrier is None or barrier.number != number:
        return
    if isinstance(outcome, Exception):
        _fail(state, discovery_id, "the disk does not take what peers answered")
    else:
        _ask(state, barrier, incarnation, of, outcome, attempt + 1)


def _finish(state: State, barrier: PendingBarrier) -> None:
    del state.barriers[barrier.record.id]
    # A member that joined meanwhile was not asked.
    is_same = {each.incarnation for each in state.members.others} == barrier.members
    state.resume(barrier.on_done, None if is_same else Undecided(_MEMBERS_CHANGED))


def _fail(state: State, discovery_id: str, why: str) -> None:
    barrier = state.barriers[discovery_id]
    abandon(state, discovery_id)
    state.resume(barrier.on_done, Undecided(why))


def _cannot(purpose: str, missing: str) -> str:
    return f"cannot {purpose} without {missing}"
