"""Push own changes to members at once, and wait for the first durable acknowledgement (R6)."""

from __future__ import annotations

from rqdisco.backends.gossip.core import contacts, queries
from rqdisco.backends.gossip.core.messages import Held, Page
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.state import Continuation, Peer, State, then
from rqdisco.core.errors import Undecided

PUSH_SECONDS = 2.0
# Pushes in flight per peer; changes made meanwhile go into the next one.
MAX_IN_FLIGHT = 2
ACK_SECONDS = 1.0
NO_PEER = "no peer is up to replicate a grant, and --grant-ack is required"


def await_replication(state: State, version: int, on_done: Continuation, *, is_grant: bool) -> None:
    """Wait up to a second for a member to acknowledge an own change. The outcome is None if one did,
    or if none is up; Undecided otherwise. With `ack_required`, a grant fails if none is up.
    """
    peers = queries.active_peers(state)
    if any(peer.acked >= version for peer in peers):
        state.resume(on_done, None)
    elif not any(peer.is_up for peer in peers):
        is_refused = is_grant and state.config.ack_required
        state.unreplicated_grants += is_grant and not is_refused
        state.resume(on_done, Undecided(NO_PEER) if is_refused else None)
    else:
        number = state.call_at(state.now.seconds + ACK_SECONDS, then(_too_late))
        state.replication_waits[number] = version, on_done
        if not state.is_running:
            give_up(state)


def _too_late(state: State, number: int) -> None:
    waiting = state.replication_waits.pop(number, None)
    if waiting is not None:
        state.unreplicated += 1
        state.resume(waiting[1], Undecided("no peer had it in time"))


def give_up(state: State) -> None:
    """Wait for no member any more: the daemon stops."""
    for number in list(state.replication_waits):
        _too_late(state, number)


def push(state: State) -> None:
    """Send new changes to all peers that are up, within the limit of pushes in flight."""
    peers = queries.active_peers(state)
    if state.replication_waits and peers:
        # Digests may acknowledge more than the answers to pushes did.
        _acknowledge(state, 0, max(peer.acked for peer in peers))
    for peer in peers:
        if peer.is_up and state.is_running:
            _push_to(state, peer)


def _push_to(state: State, peer: Peer) -> None:
    if not peer.pushes_in_flight:
        peer.pushed_upto = peer.acked
    while peer.pushes_in_flight < MAX_IN_FLIGHT and peer.pushed_upto < state.cursors.published:
        delta = state.cursors.delta(state.own, peer.pushed_upto)
        if delta is None:
            # Older than the change log: the peer pulls pages of everything once it has our digest.
            peer.skipped_rounds = contacts.MAX_SKIPPED
            contacts.trigger(state, peer)
            return
        peer.pushed_upto = delta.upto
        peer.pushes_in_flight += 1
        on_done = then(_pushed, peer.key, delta.after, delta.upto)
        contacts.send(state, peer, "push", Page(delta=delta), PUSH_SECONDS, on_done)


def _pushed(state: State, outcome: Held | PeerError, key: int, after: int, upto: int) -> None:
    peer = state.contacts.get(key)
    if peer is None:
        return
    peer.pushes_in_flight -= 1
    if isinstance(outcome, PeerError):
        # The periodic digest exchange finds what is missing.
        return
    peer.held[state.own] = outcome.held
    if outcome.held < after:
        # It lacks earlier changes, but has those of this push.
        peer.acked = max(peer.acked, outcome.held)
        _acknowledge(state, after, upto)
    else:
        peer.acked = max(peer.acked, outcome.held, upto)
        _acknowledge(state, 0, peer.acked)
    if not peer.is_dropped and state.is_running:
        _push_to(state, peer)


def _acknowledge(state: State, above: int, upto: int) -> None:
    done = [number for number, (version, _) in state.replication_waits.items() if above < version <= upto]
    for number in done:
        # What is resumed may push, and acknowledge others meanwhile.
        waiting = state.replication_waits.pop(number, None)
        if waiting is not None:
            state.resume(waiting[1], None)
