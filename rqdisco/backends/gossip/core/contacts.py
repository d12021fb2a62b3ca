"""Contact with peers: greetings, messages within a session, and who is up."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.core import members as membership
from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.effects import Abandon, Fence, Send
from rqdisco.backends.gossip.core.inputs import Answered, Failed
from rqdisco.backends.gossip.core.messages import FEATURES, PROTOCOL, Digest, Hello, Member
from rqdisco.backends.gossip.core.peer_errors import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
    duplicate_reason,
    gone_reason,
)
from rqdisco.backends.gossip.core.state import Continuation, Outgoing, Peer, RemoteClock, State, ignore, then
from rqdisco.core.codec import Malformed, Metadata
from rqdisco.storage.memory import metadata_change

GREET_SECONDS = 2.0
# Rounds of exchanges are at least this far apart, however often one is triggered.
MIN_SECONDS = 0.1
_WRITE_AGAIN_SECONDS = 1.0
_STOPPING = "this daemon stops"
# Exchanges in a row that a peer's own requests may replace.
MAX_SKIPPED = 4
# A tick begins the exchanges that are due.
_WAKE = then(ignore)


def hello(state: State) -> Hello:
    """Describe this daemon."""
    own = state.members.own
    return Hello(
        name=own.name,
        incarnation=own.incarnation,
        run_id=state.config.run_id,
        url=own.url,
        features=FEATURES,
        members=state.members.all,
        wall_ms=state.now.wall_us // 1000,
    )


def check_hello(state: State, greeting: Hello) -> None:
    """Raise Rejected if the daemon must not take part, or BadMessage. Change nothing, since
    somebody may replay an old hello of any daemon, this one included.
    """
    if greeting.protocol[0] > PROTOCOL[1] or greeting.protocol[1] < PROTOCOL[0]:
        raise Rejected(f"speaks protocol {greeting.protocol[0]} to {greeting.protocol[1]}, not one of {PROTOCOL}")
    try:
        membership.check_member(_member_of(greeting))
    except Malformed as error:
        raise BadMessage(str(error)) from None
    if greeting.incarnation == state.own and greeting.run_id == state.config.run_id:
        raise Rejected("this is the daemon itself")
    known = state.members.get(greeting.incarnation)
    if known is not None and known.state in ("forgotten", "drained"):
        raise Rejected(gone_reason(known.state, greeting.incarnation))


def accept_hello(state: State, greeting: Hello) -> None:
    """Process the hello of a daemon proved alive. Raises Rejected if it must not take part, or
    BadMessage.
    """
    check_hello(state, greeting)
    if greeting.incarnation == state.own:
        fence(state, duplicate_reason(state.own))
        raise Rejected(duplicate_reason(state.own))
    learn(state, state.members.learn(greeting.members))
    learn(state, state.members.learn([_member_of(greeting)], first_hand=greeting.incarnation))
    update_peers(state)


def learn(state: State, changed: list[Metadata]) -> None:
    """Write what was learned about members: after a restart their IDs would look like those of lost
    daemons (R7).
    """
    if changed:
        write_members(state, tuple(each.owner for each in changed), then(ignore))


def write_members(state: State, incarnations: tuple[str, ...], on_done: Continuation) -> None:
    """Write members as they are known here, and again until the disk takes them. The outcome is that of
    the first attempt.
    """
    known = [state.members.get(each) for each in incarnations]
    stored = [as_stored(state, each) for each in known if each is not None]
    changes = [metadata_change(membership.member_metadata(each)) for each in stored]
    state.persist(changes, then(_members_written, incarnations, on_done))


def as_stored(state: State, member: Member) -> Member:
    """Return a member as the disk must have it. Whether this daemon is leaving is its own decision:
    others list it as such after an attempt to forget it, but it decides on, also after a restart.
    """
    if member.incarnation != state.own or member.state != "leaving":
        return member
    to = queries.handed_over_to(state)
    return replace(member, state="member" if to is None else "leaving", successor=to)


def _members_written(
    state: State, outcome: Exception | None, incarnations: tuple[str, ...], on_done: Continuation
) -> None:
    if outcome is not None:
        state.call_at(state.now.seconds + _WRITE_AGAIN_SECONDS, then(_write_again, incarnations))
    state.resume(on_done, outcome)


def _write_again(state: State, _: int, incarnations: tuple[str, ...]) -> None:
    write_members(state, incarnations, then(ignore))


def fence(state: State, why: str) -> None:
    """Stop all decisions until a restart."""
    if state.fenced is None:
        state.log("error", "daemon fenced", why=why)
        state.effects.append(Fence(why))
    state.fenced = why


def update_peers(state: State) -> None:
    """Keep one peer per member, and fence this daemon if others have forgotten it."""
    members = state.members
    if members.own.state == "forgotten" and state.fenced is None:
        fence(state, gone_reason("forgotten", state.own))
    for member in members.others:
        peer = state.peers.get(member.incarnation)
        if peer is None or peer.url != member.url:
            add_peer(state, member.url, member.incarnation)
    if state.unidentified:
        urls = {each.url for each in members.all}
        for url in [url for url in state.unidentified if url in urls]:
            drop(state.unidentified.pop(url))
    if state.peers.keys() != members.other_incarnations:
        for incarnation in state.peers.keys() - members.other_incarnations:
            drop(state.peers.pop(incarnation))


def add_peer(state: State, url: str, incarnation: str | None = None) -> None:
    """Begin the contact with the daemon at a URL."""
    if url == state.members.own.url:
        return
    peer = Peer(key=state.next_number(), url=url, incarnation=incarnation)
    state.contacts[peer.key] = peer
    plan(state, peer, state.now.seconds)
    if incarnation is None:
        state.unidentified[url] = peer
        return
    if (before := state.peers.get(incarnation)) is not None:
        drop(before)
    state.peers[incarnation] = peer


def plan(state: State, peer: Peer, at: float) -> None:
    """Begin the next exchange with a peer at a time."""
    peer.due_at = at
    state.call_at(at, _WAKE)


def drop(peer: Peer) -> None:
    """End the contact with a peer. What waits for an answer of it still gets that."""
    peer.is_dropped, peer.due_at = True, None


def forget_dropped(state: State) -> None:
    """Forget the peers that were dropped, once nothing is under way with them."""
    if len(state.contacts) > len(state.peers) + len(state.unidentified):
        busy = {each.peer for each in state.outgoing.values()}
        for peer in list(state.contacts.values()):
            if peer.is_dropped and peer.step is None and peer.key not in busy:
                del state.contacts[peer.key]


def send(state: State, peer: Peer, verb: str, message: msgspec.Struct, seconds: float, on_done: Continuation) -> int:
    """Send a message, greeting first if needed; the outcome is the answer or a PeerError. Return its
    number.
    """
    state.last_number = number = state.last_number + 1
    if not state.is_running:
        state.resume(on_done, PeerUnreachable(_STOPPING))
        return number
    state.outgoing[number] = outgoing = Outgoing(number, peer.key, verb, message, seconds, on_done, peer.session_number)
    if not peer.session_number:
        peer.waiting.append(number)
        greet(state, peer)
    elif verb == "digest":
        _transmit(state, peer, outgoing)
    else:
        state.effects.append(Send(number, peer.url, verb, message, seconds, peer.key))
    return number


def _transmit(state: State, peer: Peer, outgoing: Outgoing) -> None:
    outgoing.session_number, message = peer.session_number, outgoing.message
    if isinstance(message, Digest) and (why := state.sessions.duplicate_reason(peer.run_id)) is not None:
        # The answers to its own digests may be lost (R8). Another start of it is not told.
        message = replace(message, receiver_fenced=why)
    state.effects.append(Send(outgoing.number, peer.url, outgoing.verb, message, outgoing.seconds, peer.key))


def abandon(state: State, number: int) -> None:
    """Wait no longer for the answer to a message."""
    if state.outgoing.pop(number, None) is not None:
        state.effects.append(Abandon(number))


def give_up(state: State) -> None:
    """Wait for no answer any more: the daemon stops."""
    for number in list(state.outgoing):
        outgoing = state.outgoing.get(number)
        abandon(state, number)
        if outgoing is not None and outgoing.verb != "hello":
            state.resume(outgoing.on_done, PeerUnreachable(_STOPPING))


def greet(state: State, peer: Peer) -> None:
    """Begin a session, unless that is under way; then send what waits for it."""
    if peer.is_greeting:
        return
    peer.is_greeting, peer.session_number = True, 0
    outgoing = Outgoing(state.next_number(), peer.key, "hello", hello(state), GREET_SECONDS, then(_greeted, peer.key))
    state.outgoing[outgoing.number] = outgoing
    _transmit(state, peer, outgoing)


def _greeted(state: State, outcome: Hello | PeerError, key: int) -> None:
    peer = state.contacts[key]
    peer.is_greeting = False
    try:
        if isinstance(outcome, PeerError):
            raise outcome
        _identify(state, peer, outcome)
    except PeerError as error:
        _mark_down(state, peer, error)
        waiting, peer.waiting = peer.waiting, []
        for number in waiting:
            if (outgoing := state.outgoing.pop(number, None)) is not None:
                state.resume(outgoing.on_done, error)
        return
    peer.session_number, peer.run_id = state.next_number(), outcome.run_id
    _mark_up(state, peer)
    waiting, peer.waiting = peer.waiting, []
    for number in waiting:
        if (outgoing := state.outgoing.get(number)) is not None:
            _transmit(state, peer, outgoing)


def _identify(state: State, peer: Peer, answer: Hello) -> None:
    """Process the hello of the daemon at a URL. Raises PeerError if it must not take part, or is not
    the one that it was (R7).
    """
    own = state.config
    if answer.incarnation == own.incarnation and answer.run_id != own.run_id:
        # A message proves to it that both are alive, which a hello alone does not.
        proof = Outgoing(
            state.next_number(), peer.key, "digest", Digest(held={}, fingerprint=""), GREET_SECONDS, then(ignore)
        )
        state.outgoing[proof.number] = proof
        _transmit(state, peer, proof)
    try:
        accept_hello(state, answer)
    except Rejected as rejection:
        is_itself = answer.incarnation == own.incarnation and answer.run_id == own.run_id
        if is_itself and state.unidentified.pop(peer.url, None) is not None:
            # A seed may be this daemon itself.
            drop(peer)
        raise PeerError(str(rejection)) from None
    if state.unidentified.get(peer.url) is peer:
        del state.unidentified[peer.url]
        known = state.peers.setdefault(answer.incarnation, peer)
        peer.incarnation = answer.incarnation
        if known is not peer:
            drop(peer)
    if peer.incarnation is None:
        peer.incarnation = answer.incarnation
    if peer.incarnation != answer.incarnation:
        raise Misdirected(f"another incarnation answers there: {answer.incarnation}")


def answered(state: State, given: Answered) -> None:
    """Pass the answer on to whoever waits for it."""
    answer, outgoing = given.message, state.outgoing.pop(given.number, None)
    if outgoing is None:
        return
    peer = state.contacts[outgoing.peer]
    if outgoing.verb != "hello":
        if peer.is_up and peer.last_error is None:
            peer.contacted_at = state.now.seconds
        else:
            _mark_up(state, peer)
        if isinstance(answer, Digest) and answer.at is not None:
            peer.remote_clock = RemoteClock(answer.at, state.now.seconds, outgoing.session_number)
    outgoing.on_done.function(state, answer, *outgoing.on_done.args)


def failed(state: State, given: Failed) -> None:
    """Tell whoever waits for the answer that the message failed. One that was not processed for lack
    of a session is repeated, unless it is a call.
    """
    number, error = given.number, given.error
    outgoing = state.outgoing.get(number)
    if outgoing is None:
        return
    peer = state.contacts[outgoing.peer]
    if outgoing.verb != "hello":
        if isinstance(error, NotGreeted) and outgoing.verb == "call":
            # Its deadline is by the peer's own time, as learned in the session that is over.
            peer.session_number = 0 if peer.session_number == outgoing.session_number else peer.session_number
        elif isinstance(error, NotGreeted) and not outgoing.is_repeated:
            outgoing.is_repeated = True
            if peer.session_number not in (0, outgoing.session_number):
                _transmit(state, peer, outgoing)
            else:
                # One of both restarted, or the session expired.
                peer.waiting.append(number)
                greet(state, peer)
            return
        elif isinstance(error, (BadMessage, Misdirected, NotGreeted)):
            peer.last_error = error_text(error)
        else:
            _mark_down(state, peer, error)
    del state.outgoing[number]
    state.resume(outgoing.on_done, error)


def _mark_up(state: State, peer: Peer) -> None:
    if not peer.is_up:
        state.log("info", "peer answers", url=peer.url, incarnation=peer.incarnation)
    peer.is_up, peer.last_error, peer.was_attempted = True, None, True
    peer.contacted_at = state.now.seconds


def _mark_down(state: State, peer: Peer, error: PeerError) -> None:
    peer.last_error = error_text(error)
    if peer.is_up or not peer.was_attempted:
        state.log("warn", "peer does not answer", url=peer.url, why=peer.last_error)
    if peer.is_up:
        member = state.members.get(peer.incarnation or "")
        peer.came_back = peer.came_back or (member is not None and member.declared_lost)
    peer.is_up, peer.was_attempted = False, True


def trigger(state: State, peer: Peer) -> None:
    """Begin the next exchange early."""
    if peer.step is not None or peer.due_at is None:
        peer.is_triggered = True
    else:
        plan(state, peer, min(peer.due_at, max(state.now.seconds, peer.last_round_ended_at + MIN_SECONDS)))


def _member_of(greeting: Hello) -> Member:
    return Member(incarnation=greeting.incarnation, name=greeting.name, url=greeting.url, features=greeting.features)


def is_refusal(error: PeerError) -> bool:
    """Report whether a peer answered with an error, rather than not at all."""
    return not isinstance(error, (NotGreeted, PeerUnreachable))


def error_text(error: PeerError) -> str:
    """Return why a message failed, in words."""
    return str(error) or type(error).__name__
