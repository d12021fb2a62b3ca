"""A grant between its decision and its answer (R3, R6). Until it is answered or revoked, nothing
else is decided about its ID, and the record is shown without it.

A grant is written as pending, and acknowledged by a peer; then the client is answered, and the
record is written as answered. Nobody waits for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rqdisco.backends.gossip.core import pushes, replies, writes
from rqdisco.backends.gossip.core.effects import Notify
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, GrantInProgress, State, then
from rqdisco.core import records
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import ClaimOutcome, Record, RegistrationOutcome

# As many as a usual cluster has nodes.
_RELEASED_AT_ONCE = 5
_RECORDED_AT_ONCE = 50
_CLIENT_GONE = "its client was gone"


def begin(state: State, discovery_id: str, request: ClientRequest) -> GrantInProgress:
    """Block other decisions about the ID until `end`."""
    state.pending_grants[discovery_id] = pending = GrantInProgress(discovery_id, request.number)
    return pending


def end(state: State, pending: GrantInProgress) -> None:
    """Allow other decisions: the grant is answered or given up."""
    del state.pending_grants[pending.id]
    state.effects.append(Notify(pending.id))
    _release(state, None, pending.waiting)


def _release(state: State, _: None, waiting: Sequence[Continuation]) -> None:
    """Resume the requests that waited, a few in a turn: with long lists each takes milliseconds."""
    # No time passes for a daemon that stops.
    count = _RELEASED_AT_ONCE if state.is_running else len(waiting)
    if len(waiting) > count:
        state.resume_soon(then(_release, waiting[count:]))
    for on_done in waiting[:count]:
        state.resume(on_done, None)


def commit(state: State, pending: GrantInProgress, before: Record, outcome: RegistrationOutcome | ClaimOutcome) -> None:
    """Make a grant durable, here and at a peer; then answer it."""
    granted = outcome.record
    assert granted.grant is not None
    pending.before, pending.outcome = before, outcome
    stored = replace(granted, grant=replace(granted.grant, pending=True))
    writes.write(state, [state.store.put(stored)], then(_written, pending.id))


def _written(state: State, outcome: StoreUnavailable | None, discovery_id: str) -> None:
    pending = state.pending_grants[discovery_id]
    request = state.requests.get(pending.request)
    if outcome is not None:
        end(state, pending)
        if request is not None:
            replies.fail(state, request, outcome)
    elif request is None:
        _give_up(state, pending, _CLIENT_GONE)
    else:
        pending.is_written = True
        version, on_done = pending.outcome.record.version, then(_replicated, discovery_id, pending.request)
        pushes.await_replication(state, version, on_done, is_grant=True)


def _replicated(state: State, outcome: Undecided | None, discovery_id: str, number: int) -> None:
    pending, request = state.pending_grants.get(discovery_id), state.requests.get(number)
    if pending is None or pending.request != number or pending.reason:
        # It was given up, and others may have decided since.
        return
    if request is None:
        _give_up(state, pending, _CLIENT_GONE)
    elif outcome is not None or state.fenced is not None:
        outcome = outcome or Undecided(str(state.fenced))
        pending.refusal = outcome
        _give_up(state, pending, outcome.reason)
    elif replies.answer_grant(state, request, pending.outcome):
        _answered(state, pending)
    else:
        pending.is_offered = True


def abandon(state: State, pending: GrantInProgress) -> None:
    """Revoke a decided grant whose client is gone, at once: later the disk may refuse that, and after
    a restart nobody knows that the grant was not answered.
    """
    # One that is being written is revoked as soon as it is.
    if pending.is_written and not pending.reason:
        _give_up(state, pending, _CLIENT_GONE)


def delivered(state: State, number: int, was_delivered: bool) -> None:
    """Continue after the answer to a client of this daemon was sent, or certainly was not."""
    request = state.requests.pop(number, None)
    pending = None if request is None else state.pending_grants.get(replies.id_of(request))
    if pending is None or pending.request != number:
        return
    if was_delivered:
        _answered(state, pending)
    else:
        _give_up(state, pending, _CLIENT_GONE)


def _answered(state: State, pending: GrantInProgress) -> None:
    """Let peers list the node from now on."""
    granted = replace(pending.outcome.record, version=state.next_version())
    writes.write(state, [state.store.put(granted)], then(_recorded, pending.id))
    end(state, pending)


def _recorded(state: State, outcome: StoreUnavailable | None, discovery_id: str) -> None:
    if outcome is not None:
        state.unrecorded_answers.add(discovery_id)


def record_answers(state: State) -> None:
    """Write that grants were answered, where the disk refused that, or an earlier start ended before
    it: until then peers do not list their nodes. Call only once this daemon may decide.
    """
    for discovery_id in sorted(state.unrecorded_answers)[:_RECORDED_AT_ONCE]:
        state.unrecorded_answers.discard(discovery_id)
        record = state.store.newest(discovery_id)
        if record is None or record.owner != state.own or record.ownerless or discovery_id in state.pending_grants:
            continue
        answered = records.with_grant_answered(record)
        if answered is not record:
            answered = replace(answered, version=state.next_version())
            writes.write(state, [state.store.put(answered)], then(_recorded, discovery_id))


def _give_up(state: State, pending: GrantInProgress, reason: str) -> None:
    pending.reason = reason
    revoke(state, pending)


def revoke(state: State, pending: GrantInProgress) -> None:
    """Restore the record before a grant that was not answered (R6).

    If the disk refuses, the waiting requests fail, and the next request tries again.
    """
    pending.is_stuck = False
    assert pending.before is not None
    restored = replace(records.with_grant_revoked(pending.before), version=state.next_version())
    writes.write(state, [state.store.put(restored)], then(_revoked, pending.id))


def _revoked(state: State, outcome: StoreUnavailable | None, discovery_id: str) -> None:
    pending = state.pending_grants[discovery_id]
    request = state.requests.get(pending.request)
    if pending.refusal is not None and request is not None:
        replies.fail(state, request, pending.refusal)
    if outcome is None:
        state.log("info", "grant revoked, {why}", why=pending.reason, discovery_id=discovery_id)
        end(state, pending)
        return
    state.log("warn", "grant not revoked yet: {reason}", reason=outcome.reason, discovery_id=discovery_id)
    pending.is_stuck = True
    waiting, pending.waiting = pending.waiting, []
    for on_done in waiting:
        state.resume(on_done, outcome)


def wait(state: State, discovery_id: str, on_done: Continuation) -> bool:
    """Return False if the ID has no grant in progress. Otherwise continue when it ends (outcome None)
    or cannot be revoked (StoreUnavailable), and return True.
    """
    pending = state.pending_grants.get(discovery_id)
    if pending is None:
        return False
    pending.waiting.append(on_done)
    if pending.is_stuck:
        revoke(state, pending)
    return True


def revoke_stuck(state: State) -> None:
    """Try once more to revoke the grants that are stuck."""
    for pending in list(state.pending_grants.values()):
        if pending.is_stuck:
            revoke(state, pending)


def is_offered(state: State, request: ClientRequest) -> bool:
    """Report whether a request was answered with a grant, and it is not known yet whether its client
    got that.
    """
    pending = state.pending_grants.get(getattr(request.command, "id", ""))
    return pending is not None and pending.request == request.number and pending.is_offered
