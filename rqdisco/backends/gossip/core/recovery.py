"""Recovery of a restarted daemon's own records from its peers, before it decides about them (R8).

The disk may be rolled back, and the last peer contacted may have the newest version, so recovered
records keep their versions until all peers were contacted. Then every record since the start gets a
new version, since others may have passed over any version issued meanwhile. A marker on the disk
records above which version, in case this daemon stops in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.backends.gossip.core import decide, writes
from rqdisco.backends.gossip.core.deltas import PullJob, pull
from rqdisco.backends.gossip.core.messages import Delta, Pull
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.backends.gossip.core.state import Continuation, Peer, State, then
from rqdisco.core.codec import Malformed, Metadata, decode_record
from rqdisco.core.expiry import expiry_watermark
from rqdisco.core.records import Record


def load(state: State, metadata: Iterable[Metadata]) -> None:
    """Learn from the disk whether an earlier start recovered records and did not finish."""
    # The version on disk at start: later records prove nothing about earlier ones.
    state.trusted_upto = state.cursors.own_cursor
    state.expired_upto = state.watermarks.of(state.own)
    for each in metadata:
        if each.id == writes.BEHIND + state.own and not each.is_empty:
            state.trusted_upto = min(state.trusted_upto, each.number)
            state.must_reissue = state.may_have_marker = True


def check_digest(state: State, peer: Peer) -> None:
    """Compare a peer's version of own records with the last one issued; a newer one retracts the
    peer's confirmation.
    """
    if peer.newest_of_ours > max(state.cursors.published, state.issued):
        assert peer.incarnation is not None
        decide.withdraw_confirmation(state, peer.incarnation)
        state.trusted_upto = min(state.trusted_upto, state.cursors.own_cursor)


def recover(state: State, peer: Peer, on_done: Continuation) -> bool:
    """Recover what a peer has, unless done already: a step of the exchange."""
    assert peer.incarnation is not None
    if peer.incarnation in state.confirmed:
        return True
    newest, expired = peer.newest_of_ours, peer.expired.get(state.own, 0)
    if newest <= state.trusted_upto and expired <= state.expired_upto:
        state.confirmed.add(peer.incarnation)
        return True
    state.must_reissue = state.may_have_marker = True
    state.recoveries += 1
    writes.write_metadata(
        state, [writes.behind_marker(state)], then(_marker_written, peer.key, newest, expired, on_done)
    )
    return False


def _marker_written(
    state: State, outcome: Exception | None, key: int, newest: int, expired: int, on_done: Continuation
) -> None:
    if outcome is not None:
        state.resume(on_done, outcome)
        return
    # An unused ID created since the start is not an expired one, and must not look like one.
    state.expired_upto = max(expired, state.expired_upto)
    state.cursors.skip_versions(max(newest, expired))
    pulling = PullJob(key, then(_recovered, key, newest, on_done), apply)
    pull(state, pulling, Pull(owner=state.own, after=state.trusted_upto))


def _recovered(state: State, outcome: Exception | None, key: int, newest: int, on_done: Continuation) -> None:
    peer = state.contacts[key]
    if outcome is None and not peer.is_dropped and peer.incarnation is not None:
        state.cursors.advance_own_cursor(newest)
        state.confirmed.add(peer.incarnation)
    state.resume(on_done, outcome)


def apply(state: State, delta: Delta, on_done: Continuation) -> None:
    """Restore own records that this daemon lost and a peer retained."""
    try:
        changes = state.cursors.recover(delta)
    except Malformed as error:
        state.resume(on_done, BadMessage(str(error)))
        return
    if not changes:
        state.resume(on_done, None)
        return
    state.log("warn", "newer records recovered from a peer", count=len(changes))
    for change in changes:
        _record_grant(state, decode_record(change.line))
    writes.write(state, changes, on_done)


def _record_grant(state: State, record: Record) -> None:
    """Note a recovered grant. A pending one is to be recorded as answered. One that seems younger than
    this start is from before the whole machine was set back: its age is unknown, so its retry window
    is closed.
    """
    grant = record.grant
    if grant is not None and grant.pending:
        state.unrecorded_answers.add(record.id)
    if grant is not None and grant.boot == state.now.moment.boot and grant.at >= state.started_ms:
        state.recovered_grants[record.id] = grant.at


def is_finished(state: State) -> bool:
    """Report whether `finish` has nothing left to do."""
    is_recovered = state.is_ready and state.was_ready and not (state.must_reissue or state.may_have_marker)
    return is_recovered and state.expired_upto <= state.watermarks.of(state.own)


def finish(state: State) -> None:
    """Once all peers were contacted, reissue the records since the start, then delete the marker.
    What the disk refuses is left to the next call.
    """
    if state.is_finishing_recovery or not decide.is_ready(state):
        return
    if not state.was_ready:
        state.was_ready = True
        if not state.must_reissue:
            state.trusted_upto = state.cursors.own_cursor
    if is_finished(state):
        return
    state.is_finishing_recovery = True
    if state.must_reissue:
        _reissue(state, None, 0, state.recoveries)
    elif state.expired_upto > state.watermarks.of(state.own):
        writes.write_watermarks(state, (expiry_watermark(state.own, state.expired_upto),), then(_finish_next))
    else:
        empty = Metadata(id=writes.BEHIND + state.own, owner=state.own)
        writes.write_metadata(state, [empty], then(_marker_deleted))


def _finish_next(state: State, outcome: Exception | None) -> None:
    state.is_finishing_recovery = False
    if outcome is None:
        finish(state)


def _reissue(state: State, outcome: Exception | None, position: int, recoveries: int) -> None:
    """Give all own records above the trusted version new ones, in parts."""
    if outcome is not None:
        _finish_next(state, outcome)
        return
    keys, after = state.cursors.keys_of_owner(state.own, position, above=state.trusted_upto)
    changes = state.own_writes.reissue(keys, state.next_version())
    next_part = then(_reissue, after, recoveries) if after else then(_reissued, recoveries)
    if changes:
        writes.write(state, changes, next_part)
    else:
        state.resume_soon(next_part)


def _reissued(state: State, outcome: Exception | None, recoveries: int) -> None:
    if outcome is None and recoveries == state.recoveries:
        # Nothing was recovered meanwhile, which had to be reissued as well.
        state.must_reissue = False
        state.trusted_upto = state.cursors.own_cursor
    _finish_next(state, outcome)


def _marker_deleted(state: State, outcome: Exception | None) -> None:
    if outcome is None:
        state.may_have_marker = False
    _finish_next(state, outcome)
