"""The steps of a round of the exchange with a peer.

A step reports whether it is done; if it is not, something of it is under way, after which `on_done`
is resumed, and the exchange calls the same step again.
"""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.backends.gossip.core import contacts, hints, recovery, writes
from rqdisco.backends.gossip.core.deltas import PullJob, pull
from rqdisco.backends.gossip.core.messages import Added, Hints, Pull
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.state import Continuation, Peer, State, then
from rqdisco.core.expiry import expiry_watermark

REQUEST_SECONDS = 2.0


def _learn_watermarks(state: State, peer: Peer, on_done: Continuation) -> bool:
    """Learn expiry watermarks of other owners; own ones are recovered like own records."""
    if peer.expired == state.watermarks.all:
        return True
    of = state.watermarks.of
    new = [
        expiry_watermark(owner, version)
        for owner, version in peer.expired.items()
        if owner != state.own and version > of(owner)
    ]
    if new:
        writes.write_watermarks(state, tuple(new), on_done)
    return not new


def _pull(state: State, peer: Peer, on_done: Continuation) -> bool:
    """Pull all records of others that a peer has and this daemon lacks."""
    behind = state.cursors.owners_ahead(peer.held)
    for owner in behind:
        # Records already coming from another peer need not come twice.
        if owner != state.own and owner not in state.pulling and owner not in peer.done_owners:
            state.pulling.add(owner)
            peer.done_owners.add(owner)
            pulling = PullJob(peer.key, then(_pulled, owner, on_done), upto=peer.held[owner])
            pull(state, pulling, Pull(owner=owner, after=state.cursors.cursor(owner)))
            return False
    peer.is_caught_up = peer.is_caught_up or not behind
    return True


def _pulled(state: State, outcome: Exception | None, owner: str, on_done: Continuation) -> None:
    state.pulling.discard(owner)
    state.resume(on_done, outcome)


def _deliver_hints(state: State, peer: Peer, on_done: Continuation) -> bool:
    """Deliver the hints stored for the IDs that a peer owns."""
    incarnation = peer.incarnation
    if not state.hints.count or not peer.is_hinting or incarnation is None or peer.hints_are_done:
        return True
    of, batch = state.hints.take_batch(incarnation)
    if not batch:
        return True
    message = Hints(owner=incarnation, of=of, hints=tuple(batch))
    contacts.send(
        state, peer, "hints", message, REQUEST_SECONDS, then(_delivered, peer.key, of, batch[0].number, on_done)
    )
    return False


def _delivered(state: State, outcome: Added | PeerError, key: int, of: str, first: int, on_done: Continuation) -> None:
    if isinstance(outcome, PeerError):
        state.resume(on_done, outcome)
    elif outcome.upto < first:
        state.contacts[key].hints_are_done = True
        state.resume(on_done, None)
    else:
        hints.delete_upto(state, of, outcome.upto, on_done)


STEPS: tuple[Callable[[State, Peer, Continuation], bool], ...] = (
    recovery.recover,
    _learn_watermarks,
    _pull,
    _deliver_hints,
)
