"""Answer peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rqdisco.backends.gossip.core import (
    calls,
    contacts,
    deltas,
    exchange,
    grant_barriers,
    hints,
    messages,
    queries,
    replies,
    requests,
    succession,
    writes,
)
from rqdisco.backends.gossip.core.effects import Respond
from rqdisco.backends.gossip.core.inputs import Greeted, Received
from rqdisco.backends.gossip.core.peer_errors import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    Rejected,
    duplicate_reason,
    gone_reason,
)
from rqdisco.backends.gossip.core.sessions import Sender
from rqdisco.backends.gossip.core.state import ClientRequest, State, then
from rqdisco.core import codec
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.ids import is_created_id, is_id

_MAX_UNPROVED = 256


def greet(state: State, greeting: Greeted) -> None:
    """Begin a session."""
    hello = greeting.hello
    try:
        contacts.check_hello(state, hello)
    except PeerError as error:
        state.effects.append(Respond(greeting.number, error))
        return
    state.sessions.begin(greeting.session, Sender(hello.incarnation, hello.run_id, hello.name))
    state.unproved[greeting.session] = hello
    while len(state.unproved) > _MAX_UNPROVED:
        state.unproved.popitem(last=False)
    state.effects.append(Respond(greeting.number, contacts.hello(state)))


def serve(state: State, received: Received) -> None:
    """Answer a message, now or later."""
    try:
        sender = state.sessions.touch(received.session)
        if sender is None:
            raise NotGreeted
        _authorize(state, received.session, sender)
        if isinstance(received.message, BadMessage):
            raise received.message
        handler = _HANDLERS.get(received.verb)
        if handler is None:
            raise BadMessage("no such verb")
        handler(state, received.number, sender, received.message)
    except (PeerError, StoreUnavailable) as error:
        replies.respond(state, received.number, error)


def _authorize(state: State, name: str, sender: Sender) -> None:
    """Record contact with a sender. Raises NotGreeted, and Rejected where it must not take part."""
    hello = state.unproved.pop(name, None)
    if hello is not None:
        # The first message in a session proves that its hello was no replay.
        contacts.accept_hello(state, hello)
    if sender.incarnation not in state.members.other_incarnations:
        _reject(state, sender)
    duplicate = state.sessions.record_activity(sender)
    if duplicate is not None:
        state.log("error", "duplicate peer identity", why=duplicate)
    peer = state.peers.get(sender.incarnation)
    if peer is not None:
        peer.contacted_at = state.now.seconds


def _reject(state: State, sender: Sender) -> None:
    if sender.incarnation == state.own:
        raise Rejected(duplicate_reason(state.own))
    member = state.members.get(sender.incarnation)
    if member is None:
        raise NotGreeted
    raise Rejected(gone_reason(member.state, sender.incarnation))


def _digest(state: State, number: int, sender: Sender, digest: messages.Digest) -> None:
    peer = state.peers.get(sender.incarnation)
    if peer is not None:
        peer.digests_received += 1
        peer.digest_received_at = state.now.seconds
        exchange.process_digest(state, peer, digest)
        if state.cursors.owners_ahead(peer.held):
            contacts.trigger(state, peer)
        if state.finished_for is not state.members.all or state.unidentified:
            contacts.update_peers(state)
    fenced = state.sessions.duplicate_reason(sender.run_id)
    wall_ms = state.now.wall_us // 1000
    answer = exchange.digest(state, digest.fingerprint, receiver_fenced=fenced, at=state.now.moment, wall_ms=wall_ms)
    state.effects.append(Respond(number, answer))


def _push(state: State, number: int, sender: Sender, page: messages.Page) -> None:
    if page.delta.owner != sender.incarnation:
        raise BadMessage("pushed records are not the sender's own")
    deltas.apply(state, page.delta, then(_pushed, number, page.delta.owner))


def _pushed(state: State, outcome: Exception | None, number: int, owner: str) -> None:
    replies.respond(state, number, outcome or messages.Held(held=state.cursors.cursor(owner)))


def _pull(state: State, number: int, sender: Sender, pull: messages.Pull) -> None:
    state.effects.append(Respond(number, state.cursors.page(pull)))


def _hints(state: State, number: int, sender: Sender, message: messages.Hints) -> None:
    if message.owner != state.own:
        raise Misdirected
    hints.add(state, sender.incarnation, message.of, message.hints, then(_hints_added, number))


def _hints_added(state: State, outcome: int | Exception, number: int) -> None:
    replies.respond(state, number, outcome if isinstance(outcome, Exception) else messages.Added(upto=outcome))


def _barrier(state: State, number: int, sender: Sender, barrier: messages.Barrier) -> None:
    """Store the owner's current record, so that all later answers are based on it; return hints."""
    if barrier.owner != sender.incarnation:
        raise BadMessage("a barrier by a daemon that is not the owner")
    delta = messages.Delta(owner=barrier.owner, after=0, upto=0, records=[barrier.record])
    deltas.apply(state, delta, then(_barrier_applied, number, barrier))


def _barrier_applied(state: State, outcome: Exception | None, number: int, barrier: messages.Barrier) -> None:
    if outcome is not None:
        replies.respond(state, number, outcome)
        return
    key, _ = codec.split_record(bytes(barrier.record))
    known = state.store.newest(key.decode())
    if known is not None and queries.owner(state, known) != barrier.owner:
        replies.respond(state, number, BadMessage("another daemon has an ID of this name"))
    else:
        hints.delete_upto(state, barrier.of, barrier.added, then(_barrier_hints, number, barrier))


def _barrier_hints(state: State, outcome: Exception | None, number: int, barrier: messages.Barrier) -> None:
    if outcome is not None:
        replies.respond(state, number, outcome)
    elif not state.hints.all_durable(barrier.owner):
        # Hints still being written count; later ones are checked against the record just stored.
        writes.flush(state, then(_barrier_hints, number, barrier))
    else:
        of, batch = state.hints.take_batch(barrier.owner)
        state.effects.append(Respond(number, messages.Hints(owner=barrier.owner, of=of, hints=tuple(batch))))


def _call(state: State, number: int, sender: Sender, message: messages.Call) -> None:
    """Execute a client's request that the sender received (R2)."""
    if message.owner != state.own:
        raise Misdirected
    known = state.store.newest(message.id)
    if known is None and not is_id(message.id):
        raise BadMessage("not an ID")
    left, until, now = message.ms, message.until, state.now.moment
    if until is not None:
        # The deadline by this daemon's own time, which alone reveals a message delayed on its way.
        left = min(left, until.ms - now.ms) if until.boot == now.boot else 0
    if left <= 0:
        state.effects.append(Respond(number, calls.outcome_of_refusal(StoreUnavailable(calls.TOO_LATE))))
        return
    # A name that nobody has yet may have got another owner, as a member joined.
    is_new = known is None and not is_created_id(message.id) and message.op in ("create", "claim", "report")
    owner = message.owner if known is None else state.members.current_owner(known.owner)
    if (state.members.owner_of_name(message.id) if is_new else owner) != message.owner:
        raise Misdirected
    request = ClientRequest(-number, calls.command_of(message), number, state.now.seconds)
    state.requests[request.number] = request
    state.call_at(state.now.seconds + left / 1000, then(_call_too_late, request.number))
    requests.run(state, request)


def _call_too_late(state: State, _: int, number: int) -> None:
    request = state.requests.get(number)
    if request is not None:
        replies.fail(state, request, StoreUnavailable("not decided in time"))
        grant_barriers.abandon(state, request)


def _agree(state: State, number: int, sender: Sender, proposal: messages.SuccessionProposal) -> None:
    succession.agree(state, number, proposal)


def _succeed(state: State, number: int, sender: Sender, proposal: messages.SuccessionProposal) -> None:
    if proposal.incarnation != sender.incarnation:
        raise BadMessage("handed-over IDs are not the sender's own")
    succession.succeed(state, number, proposal)


_HANDLERS: dict[str, Callable[[State, int, Sender, Any], None]] = {
    "digest": _digest,
    "push": _push,
    "pull": _pull,
    "hints": _hints,
    "barrier": _barrier,
    "call": _call,
    "agree": _agree,
    "succeed": _succeed,
}
