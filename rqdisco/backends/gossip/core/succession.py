"""Give the IDs of a daemon that is gone for good a new owner (R7).

`forget`: an operator declares a daemon lost; this one takes over its IDs once every other member
has agreed. `drain`: this daemon hands its IDs over to a peer before it is removed. `agree` and
`succeed` answer the peers that do so.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.core import (
    contacts,
    decide,
    deltas,
    exchange,
    hints,
    queries,
    replies,
    takeover,
    writes,
)
from rqdisco.backends.gossip.core.deltas import Pulling
from rqdisco.backends.gossip.core.inputs import Drain, Forget
from rqdisco.backends.gossip.core.lost_member import find_lost
from rqdisco.backends.gossip.core.members import member_metadata
from rqdisco.backends.gossip.core.messages import Agreed, Member, Pull, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State, then
from rqdisco.core.errors import NoSuccessor, StoreUnavailable

_REQUEST_SECONDS = 5.0
_DRAIN_SECONDS = 60.0


# Forgetting a lost daemon.


def forget(state: State, request: ClientRequest, command: Forget) -> None:
    """Make this daemon the owner of the IDs of a lost one; the reply is their number.

    Every other member must answer and agree, except those declared lost here or elsewhere: where two
    are lost, forgetting each in turn, and then the first again, forgets both. A repeated request
    resumes an interrupted one. Raises NoSuccessor, Frozen.
    """
    decide.check_frozen(state)
    lost = find_lost(state, command.name)
    undeclared = [each for each in _lost_incarnations(state, lost) if not each.declared_lost]
    on_done = then(_declared, request.number, lost.incarnation)
    _persist(state, [replace(each, declared_lost=True) for each in undeclared], on_done)


def _declared(state: State, outcome: Exception | None, number: int, incarnation: str) -> None:
    request, lost = state.requests.get(number), state.members.get(incarnation)
    if request is None or lost is None or _has_failed(state, number, outcome):
        return
    if lost.state == "forgotten":
        _take_over(state, None, number, incarnation)
        return
    leaving = replace(lost, state="leaving", successor=lost.successor or state.own)
    _persist(state, [leaving], then(_ask_next, number, incarnation, ()))


def _ask_next(
    state: State, outcome: Exception | None, number: int, incarnation: str, agreeing: tuple[str, ...]
) -> None:
    """Obtain from every other member its agreement and its records of the lost one."""
    if _has_failed(state, number, outcome):
        return
    lost = state.members.get(incarnation)
    assert lost is not None
    # Another daemon may be told to forget it at the same time. The chosen successor may have been
    # lost as well, and have a successor.
    successor_id = state.members.current_owner(lost.successor or "")
    if successor_id != state.own:
        by = _name(state, successor_id)
        _refuse(
            state, number, f"{state.members.label(lost)} is being forgotten already, by {by}: repeat the command there"
        )
        return
    left = [
        each
        for each in state.members.others
        if each.incarnation not in agreeing and (not each.declared_lost or queries.is_up(state, each.incarnation))
    ]
    if not left:
        forgotten = replace(lost, state="forgotten")
        # While the disk writes this, no other successor may be agreed to.
        state.members.put(forgotten)
        _persist(state, [forgotten], then(_take_over, number, incarnation))
        return
    member, peer = left[0], state.peers.get(left[0].incarnation)
    if peer is None or not peer.is_up:
        _refuse(state, number, f"{state.members.label(member)} must agree, and does not answer")
        return
    proposal = SuccessionProposal(incarnation=incarnation, successor=lost.successor or state.own)
    on_done = then(_agreed, number, proposal, member, agreeing)
    contacts.send(state, peer, "agree", proposal, _REQUEST_SECONDS, on_done)


def _agreed(
    state: State,
    outcome: Agreed | PeerError,
    number: int,
    proposal: SuccessionProposal,
    member: Member,
    agreeing: tuple[str, ...],
) -> None:
    peer = state.peers.get(member.incarnation)
    if isinstance(outcome, PeerError) or peer is None:
        _refuse(state, number, f"{state.members.label(member)} must agree, and does not answer: {outcome}")
    elif outcome.successor != proposal.successor:
        by = _name(state, outcome.successor)
        _refuse(
            state, number, f"{_name(state, proposal.incarnation)} is being forgotten by {by}: repeat the command there"
        )
    else:
        # Versions below the cursor too: an owner on an older disk may have sent others versions
        # beyond what it lacked.
        on_done = then(_pulled, number, proposal, member, outcome.held, agreeing)
        deltas.pull(state, Pulling(peer.key, on_done), Pull(owner=proposal.incarnation, after=0))


def _pulled(
    state: State,
    outcome: Exception | None,
    number: int,
    proposal: SuccessionProposal,
    member: Member,
    held: int,
    agreeing: tuple[str, ...],
) -> None:
    if isinstance(outcome, PeerError):
        _refuse(state, number, f"{state.members.label(member)} must agree, and does not answer: {outcome}")
    elif _has_failed(state, number, outcome):
        return
    elif held > state.cursors.cursor(proposal.incarnation):
        name = _name(state, proposal.incarnation)
        _refuse(state, number, f"{state.members.label(member)} has records of {name} that are not here yet, try again")
    else:
        _ask_next(state, None, number, proposal.incarnation, (*agreeing, member.incarnation))


def _take_over(state: State, outcome: Exception | None, number: int, incarnation: str) -> None:
    if not _has_failed(state, number, outcome):
        takeover.take_over(state, incarnation, then(_taken_over, number), is_lost=True)


def _taken_over(state: State, outcome: int | Exception, number: int) -> None:
    if not _has_failed(state, number, outcome):
        replies.reply(state, state.requests[number], outcome)


def _lost_incarnations(state: State, lost: Member) -> list[Member]:
    """Return the incarnations that are lost together with `lost`: all unreachable ones of its name if
    a daemon of that name answers, since that one has lost its disk more than once.
    """
    named = state.members.named(lost.name)
    unreachable = [
        each for each in named if not queries.is_up(state, each.incarnation) and each.incarnation != state.own
    ]
    if len(unreachable) < len(named):
        return unreachable
    return [each for each in unreachable if each.incarnation == lost.incarnation]


# Draining this daemon.


def drain(state: State, request: ClientRequest, command: Drain) -> None:
    """Hand all IDs of this daemon to another, and reply with the other's name. Once the handover
    has begun, this daemon decides nothing, even if the command then fails; the operator repeats it.
    Raises NoSuccessor, Frozen.
    """
    decide.check_frozen(state)
    own = state.members.own
    if own.state == "drained":
        replies.reply(state, request, _name(state, own.successor))
        return
    successor = _choose_successor(state, own, command.to)
    if (objection := decide.handover_objection(state)) is not None:
        raise NoSuccessor(objection)
    leaving = replace(own, state="leaving", successor=successor.incarnation)
    _persist(state, [leaving], then(_begin_drain, request.number, successor))


def _begin_drain(state: State, outcome: Exception | None, number: int, successor: Member) -> None:
    if not _has_failed(state, number, outcome):
        state.successor = successor.incarnation
        _await_decisions(state, None, number, successor, state.now.seconds + _DRAIN_SECONDS)


def _await_decisions(state: State, _: object, number: int, successor: Member, until: float) -> None:
    """Wait for the end of pending grants and takeovers, and until what this daemon answered itself is added."""
    if number not in state.requests:
        return
    if not state.pending_grants and not state.taking_over:
        hints.merge_all(state)
        if not state.hints.for_owner(state.own):
            _exchange_with_successor(state, number, successor)
            return
    if state.now.seconds >= until:
        _refuse(state, number, "decisions are still in progress, try again")
    else:
        state.call_at(state.now.seconds + 0.05, then(_await_decisions, number, successor, until))


def _exchange_with_successor(state: State, number: int, successor: Member) -> None:
    peer = state.peers.get(successor.incarnation)
    if peer is None:
        _refuse(state, number, f"{successor.name} cannot take over yet, try again: it is gone")
    else:
        exchange.begin_round(state, peer, then(_deliver_hints, number, successor, None))


def _deliver_hints(
    state: State, outcome: Exception | None, number: int, successor: Member, left: tuple[str, ...] | None
) -> None:
    """Deliver all hints, since peers accept none from a drained daemon; then hand over."""
    if left is None and isinstance(outcome, PeerError):
        _refuse(state, number, f"{successor.name} cannot take over yet, try again: {outcome}")
        return
    if left is None and _has_failed(state, number, outcome):
        return
    owners = state.hints.owners
    left = tuple(owner for owner in owners if queries.is_up(state, owner)) if left is None else left
    if left:
        on_done = then(_deliver_hints, number, successor, left[1:])
        exchange.begin_round(state, state.peers[left[0]], on_done)
    elif owners:
        names = ", ".join(_name(state, owner) for owner in owners)
        _refuse(state, number, f"registrations wait here for {names}: try again when it is back, or forgotten")
    else:
        writes.flush(state, then(_hand_over, number, successor))


def _hand_over(state: State, outcome: Exception | None, number: int, successor: Member) -> None:
    peer = state.peers.get(successor.incarnation)
    if _has_failed(state, number, outcome):
        return
    if peer is None:
        _refuse(state, number, f"{successor.name} cannot take over yet, try again: it is gone")
        return
    if state.taking_over:
        # The IDs of a daemon that hands them over to this one belong to what is handed over.
        _refuse(state, number, "decisions are still in progress, try again")
        return
    state.is_handing_over = True
    upto = state.cursors.own_cursor
    proposal = SuccessionProposal(incarnation=state.own, successor=successor.incarnation, upto=upto)
    contacts.send(state, peer, "succeed", proposal, _REQUEST_SECONDS, then(_succeeded, number, successor))


def _succeeded(state: State, outcome: Agreed | PeerError, number: int, successor: Member) -> None:
    if isinstance(outcome, PeerError):
        _refuse(state, number, f"{successor.name} cannot take over yet, try again: {outcome}")
    else:
        _persist(state, [replace(state.members.own, state="drained")], then(_drained, number, successor.name))


def _drained(state: State, outcome: Exception | None, number: int, name: str) -> None:
    if not _has_failed(state, number, outcome):
        replies.reply(state, state.requests[number], name)


def _choose_successor(state: State, own: Member, to: str | None) -> Member:
    others = state.members.others
    if own.successor is not None and state.members.current_owner(own.successor) != state.own:
        # The chosen successor may have taken over already, and handed over in turn.
        successor_id = state.members.current_owner(own.successor)
        chosen = [each for each in others if each.incarnation == successor_id]
    else:
        chosen = [each for each in others if to in (None, each.name) and each.state == "member"]
    for each in chosen:
        if queries.is_up(state, each.incarnation):
            return each
    raise NoSuccessor("no peer that could take over answers")


# Answers to peers.


def agree(state: State, call: int, proposal: SuccessionProposal) -> None:
    """Answer a proposal that a member is gone for good."""
    member = state.members.get(proposal.incarnation)
    if member is None or state.frozen is not None:
        replies.respond(state, call, BadMessage(state.frozen or "no such member"))
        return
    changed = state.members.learn([replace(member, state="leaving", successor=proposal.successor)])
    writes.write_metadata(state, changed, then(_agree, call, member.incarnation))


def _agree(state: State, outcome: Exception | None, call: int, incarnation: str) -> None:
    member = state.members.get(incarnation)
    if outcome is not None or member is None:
        replies.respond(state, call, outcome or BadMessage("no such member"))
    else:
        held = state.cursors.cursor(incarnation)
        replies.respond(state, call, Agreed(successor=member.successor or "", held=held))


def succeed(state: State, call: int, proposal: SuccessionProposal) -> None:
    """Become the owner of IDs that their owner hands over."""
    peer = state.peers.get(proposal.incarnation)
    if peer is None or state.frozen is not None:
        _check_succession(state, None, call, proposal)
    else:
        # The sender may be the last to hold decisions of another member, which is down.
        exchange.begin_round(state, peer, then(_check_succession, call, proposal), is_hinting=False)


def _check_succession(state: State, outcome: Exception | None, call: int, proposal: SuccessionProposal) -> None:
    member, peer = state.members.get(proposal.incarnation), state.peers.get(proposal.incarnation)
    own = state.members.own
    is_behind = peer is not None and bool(state.cursors.behind(peer.held))
    held = state.cursors.cursor(proposal.incarnation)
    error: str | None = None
    if state.frozen is not None:
        error = state.frozen
    elif outcome is not None:
        error = outcome.reason if isinstance(outcome, StoreUnavailable) else str(outcome) or type(outcome).__name__
    elif own.state in ("drained", "forgotten"):
        error = "this daemon has left"
    elif member is None or proposal.successor != state.own:
        error = "this daemon is not the chosen successor"
    elif state.is_handing_over and own.successor != proposal.incarnation:
        # Its own successor may have agreed already, up to its last version before these IDs.
        error = "this daemon hands its own IDs over"
    elif is_behind or held < proposal.upto:
        error = "not all records are here yet"
    elif not decide.is_ready(state):
        error = "not ready yet"
    if error is not None or member is None:
        replies.respond(state, call, BadMessage(error or ""))
        return
    drained = replace(member, state="drained", successor=state.own)
    state.taking_over += 1
    _persist(state, [drained], then(_succeed, call, proposal.incarnation, held))


def _succeed(state: State, outcome: Exception | None, call: int, incarnation: str, held: int) -> None:
    state.taking_over -= 1
    if outcome is not None:
        replies.respond(state, call, outcome)
    else:
        takeover.take_over(state, incarnation, then(_confirm, call, held), is_lost=False)


def _confirm(state: State, outcome: int | Exception, call: int, held: int) -> None:
    replies.respond(state, call, outcome if isinstance(outcome, Exception) else Agreed(successor=state.own, held=held))


# Shared.


def _persist(state: State, members: list[Member], on_done: Continuation) -> None:
    """Write members, and publish them once they are durable."""
    writes.write_metadata(state, [member_metadata(each) for each in members], then(_publish, tuple(members), on_done))


def _publish(state: State, outcome: Exception | None, members: tuple[Member, ...], on_done: Continuation) -> None:
    if outcome is None:
        for member in members:
            state.members.put(member)
    state.resume(on_done, outcome)


def _has_failed(state: State, number: int, outcome: Any) -> bool:
    """Report whether a step failed, or nobody waits any more; refuse the request then."""
    request = state.requests.get(number)
    if request is not None and isinstance(outcome, Exception):
        replies.fail(state, request, outcome)
    return request is None or isinstance(outcome, Exception)


def _refuse(state: State, number: int, why: str) -> None:
    if (request := state.requests.get(number)) is not None:
        replies.fail(state, request, NoSuccessor(why))


def _name(state: State, incarnation: str | None) -> str:
    member = None if incarnation is None else state.members.get(incarnation)
    return str(incarnation) if member is None else state.members.label(member)
