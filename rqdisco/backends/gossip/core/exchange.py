"""The periodic anti-entropy exchange with each peer: swap digests, recover own records after a
restart (R8), pull missed records, deliver hints.

A round goes through the `steps`.
"""

from __future__ import annotations

from typing import Any

from rqdisco.backends.gossip.core import (
    contacts,
    convergence,
    decide,
    grants,
    hints,
    pushes,
    queries,
    recovery,
    takeover,
    writes,
)
from rqdisco.backends.gossip.core.messages import Digest
from rqdisco.backends.gossip.core.peer_errors import PeerError, Rejected
from rqdisco.backends.gossip.core.state import Continuation, Peer, State, then
from rqdisco.backends.gossip.core.steps import REQUEST_SECONDS, STEPS

INTERVAL = 1.0
_MAX_ATTEMPTS = 3
_LASTING_ROUNDS = 3


def begin_due(state: State) -> None:
    """Begin the rounds whose time has come."""
    now = state.now.seconds
    contacts.forget_dropped(state)
    for peer in list(state.contacts.values()) if state.is_running else ():
        if peer.due_at is not None and peer.due_at <= now:
            _begin(state, peer)


def begin_round(state: State, peer: Peer, on_done: Continuation, *, is_hinting: bool = True) -> None:
    """Begin a round now, or after the present one. The outcome is None, or why it failed. Without
    `is_hinting` it delivers no hints.
    """
    peer.next_round.append(on_done)
    peer.is_next_hinting = peer.is_next_hinting and is_hinting
    if peer.step is None:
        _begin(state, peer)


def _begin(state: State, peer: Peer) -> None:
    peer.due_at, peer.step = None, 0
    peer.this_round, peer.next_round = peer.next_round, []
    peer.is_hinting, peer.is_next_hinting = peer.is_next_hinting, True
    peer.done_owners.clear()
    peer.hints_are_done = False
    is_same = peer.fingerprint == state.members.fingerprint and peer.incarnation is not None
    if is_same and not peer.this_round and _may_skip(state, peer):
        _advance(state, peer)
    else:
        _send_digest(state, peer, 1)


def _may_skip(state: State, peer: Peer) -> bool:
    """Report whether the peer's own request exchanged digests within the interval. Return False after
    a few True in a row, to test that the peer still answers.
    """
    received, now = peer.digest_received_at, state.now.seconds
    is_recent = received is not None and now - received <= INTERVAL
    if not is_recent or not peer.is_up or peer.skipped_rounds >= contacts.MAX_SKIPPED:
        peer.skipped_rounds = 0
        return False
    peer.skipped_rounds += 1
    return True


def digest(state: State, fingerprint: str, **answer: Any) -> Digest:
    """Return a digest for a peer that last sent `fingerprint`; `answer` are the fields that only an
    answer has.
    """
    cursors, members = state.cursors, state.members
    held, beyond = cursors.summary
    return Digest(
        held=held,
        newest_beyond_gap=beyond,
        issued=state.own_writes.newest_pending,
        expired=state.watermarks.all,
        fingerprint=members.fingerprint,
        members=() if fingerprint == members.fingerprint else members.all,
        sender_fenced=state.fenced,
        has_unmet=bool(state.unidentified),
        **answer,
    )


def _send_digest(state: State, peer: Peer, attempt: int) -> None:
    on_done = then(_digest_answered, peer.key, peer.digests_received, attempt)
    contacts.send(state, peer, "digest", digest(state, peer.fingerprint), REQUEST_SECONDS, on_done)


def _digest_answered(state: State, outcome: Digest | PeerError, key: int, received: int, attempt: int) -> None:
    peer = state.contacts[key]
    if isinstance(outcome, PeerError):
        end(state, peer, outcome)
        return
    # A peer that was drained meanwhile, and dropped, may have seen a copy of this daemon.
    _heed_fence(state, outcome)
    if peer.digests_received != received and attempt < _MAX_ATTEMPTS:
        # The peer sent a digest meanwhile, and which one is older is unknown.
        _send_digest(state, peer, attempt + 1)
    else:
        if not peer.is_dropped:
            process_digest(state, peer, outcome)
        _advance(state, peer)


def process_digest(state: State, peer: Peer, theirs: Digest) -> None:
    """Store what a peer's digest reports: about the peer, the members, and this daemon."""
    if theirs.members:
        contacts.learn(state, state.members.learn(theirs.members))
    peer.held, peer.fingerprint, peer.expired = dict(theirs.held), theirs.fingerprint, theirs.expired
    peer.fenced_reason, peer.has_unmet = theirs.sender_fenced, theirs.has_unmet
    peer.newest_issued = theirs.issued or theirs.held.get(peer.incarnation or "", 0)
    if theirs.fingerprint == state.members.fingerprint:
        peer.differences = ()
    elif theirs.members:
        peer.differences = state.members.differences(theirs.members)
    peer.acked = theirs.held.get(state.own, 0)
    peer.newest_of_ours = max(peer.acked, theirs.newest_beyond_gap.get(state.own, 0))
    if theirs.wall_ms:
        peer.clock_offset_ms = theirs.wall_ms - state.now.wall_us // 1000
    _heed_fence(state, theirs)
    recovery.check_digest(state, peer)
    if state.convergence_waits:
        convergence.update(state)


def _heed_fence(state: State, theirs: Digest) -> None:
    if theirs.receiver_fenced is not None and state.fenced is None:
        contacts.fence(state, theirs.receiver_fenced)


def _advance(state: State, peer: Peer) -> None:
    """Go through the steps from the present one on, until one has to wait."""
    if peer.step == 0 and is_up_to_date(state, peer):
        _plan_next(state, peer, None)
        return
    on_done = then(step_done, peer.key)
    while peer.step is not None and peer.step < len(STEPS) and not peer.is_dropped:
        if not STEPS[peer.step](state, peer, on_done):
            return
        peer.step += 1
    end(state, peer, None)


def is_up_to_date(state: State, peer: Peer) -> bool:
    """Report whether neither the steps nor the end of a round have anything to do, as is usual."""
    cursors, members = state.cursors, state.members
    if state.finished_for is not members.all or peer.fingerprint != members.fingerprint or peer.is_dropped:
        return False
    if state.agreed_on != members.fingerprint and (state.agreed_on or queries.members_agree(state)):
        return False
    if state.replication_waits or state.pending_grants or state.unrecorded_answers or state.unidentified:
        return False
    if peer.acked < cursors.published:
        return False
    return (
        recovery.is_finished(state)
        and peer.is_caught_up
        and peer.incarnation in state.confirmed
        and not (state.hints.count or state.hints.undeleted or state.own_writes.refused or peer.differing_exchanges)
        and not cursors.owners_ahead(peer.held)
        and peer.expired == state.watermarks.all
    )


def step_done(state: State, outcome: Exception | None, key: int) -> None:
    """Continue the round of a peer after what a step waited for."""
    peer = state.contacts[key]
    if outcome is not None:
        end(state, peer, outcome)
    elif peer.step is not None:
        _advance(state, peer)


def end(state: State, peer: Peer, error: Exception | None) -> None:
    """End a round, and plan the next one."""
    if peer.step is None:
        return
    peer.step = None
    if isinstance(error, Rejected):
        _handle_rejection(state, str(error))
    elif error is None and not peer.is_dropped:
        pushes.push(state)
        contacts.update_peers(state)
        _log_differences(state, peer)
    # Failed rounds may also be the last that this daemon needed to become ready.
    _finish_leftovers(state)
    _log_agreement(state)
    _plan_next(state, peer, error)


def _plan_next(state: State, peer: Peer, error: Exception | None) -> None:
    """Plan the next round, and resume what waited for this one."""
    peer.step = None
    if not peer.is_dropped:
        is_early = peer.is_triggered or bool(peer.next_round)
        peer.last_round_ended_at, peer.is_triggered = state.now.seconds, False
        rest = contacts.MIN_SECONDS if is_early else INTERVAL * state.next_jitter()
        contacts.plan(state, peer, state.now.seconds + rest)
    done, peer.this_round = peer.this_round, []
    if peer.is_dropped or not state.is_running:
        # There is no next round.
        done, peer.next_round = [*done, *peer.next_round], []
        error = error or PeerError("the peer is gone" if state.is_running else "this daemon stops")
    for on_done in done:
        state.resume(on_done, error)


def _finish_leftovers(state: State) -> None:
    """Finish what an earlier round, start or disk left."""
    hints.retry_deletions(state)
    grants.revoke_stuck(state)
    # A fenced daemon changes no records of its own: another one may do so too.
    if decide.is_ready(state) and state.fenced is None:
        state.finished_for = state.members.all
        writes.correct_refused(state)
        recovery.finish(state)
        takeover.resume(state)
        hints.merge_all(state)
        if state.unrecorded_answers and not state.must_reissue:
            grants.record_answers(state)


def watch_leftovers(state: State) -> None:
    """Let the last daemon finish what is left in a while, since it exchanges with nobody."""
    if state.peers or state.is_finishing_alone or not state.is_running:
        return
    is_left = state.hints.count or state.hints.undeleted or state.pending_grants or state.unrecorded_answers
    is_finished = state.finished_for is state.members.all and recovery.is_finished(state)
    if is_left or state.own_writes.refused or state.takeovers_running or not is_finished:
        state.is_finishing_alone = True
        state.call_at(state.now.seconds + INTERVAL, then(_finish_alone))


def _finish_alone(state: State, _: object) -> None:
    state.is_finishing_alone = False
    if state.is_running and not state.peers:
        _finish_leftovers(state)


def end_all(state: State) -> None:
    """End all rounds after an internal error; new ones repeat their work."""
    state.pulling.clear()
    state.is_correcting = state.is_finishing_recovery = False
    for peer in state.contacts.values():
        if peer.step is not None:
            waiting, peer.step, peer.this_round = peer.this_round, None, []
            if not peer.is_dropped:
                contacts.plan(state, peer, state.now.seconds + INTERVAL)
            else:
                waiting, peer.next_round = [*waiting, *peer.next_round], []
            for on_done in waiting:
                # In a turn of its own, since it may fail as well.
                state.call_at(state.now.seconds, then(_resume_failed, on_done))


def _resume_failed(state: State, _: int, on_done: Continuation) -> None:
    state.resume(on_done, PeerError("internal error"))


def _log_differences(state: State, peer: Peer) -> None:
    """Log member lists that differ for longer than changes take to spread, and when they match
    again.
    """
    before = peer.differing_exchanges
    peer.differing_exchanges = before + 1 if peer.fingerprint != state.members.fingerprint else 0
    if peer.differing_exchanges == _LASTING_ROUNDS:
        state.log("warn", "lists of members differ", url=peer.url, how=", ".join(peer.differences))
    elif before >= _LASTING_ROUNDS and not peer.differing_exchanges:
        state.log("info", "lists of members are the same again", url=peer.url)


def _log_agreement(state: State) -> None:
    agreed = state.members.fingerprint if queries.members_agree(state) and decide.is_ready(state) else ""
    if agreed and agreed != state.agreed_on:
        state.log("info", "peers agree", count=len(state.members.active))
    elif state.agreed_on and not agreed:
        state.log("warn", "peers do not agree, or one is unreachable")
    state.agreed_on = agreed


def _handle_rejection(state: State, why: str) -> None:
    # See `peer_errors.gone_reason`.
    if state.own not in why or state.members.own.state == "drained":
        return
    if why.startswith(("forgotten", "drained")):
        # A rolled-back disk lacks this. Peers accept nothing from this daemon any more.
        state.is_excluded = True
    contacts.fence(state, why)
