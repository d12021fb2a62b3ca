"""Drain this daemon: it hands its IDs over to a peer before it is removed (R7)."""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import contacts, decide, exchange, hints, queries, replies, succession, writes
from rqdisco.backends.gossip.core.inputs import Drain
from rqdisco.backends.gossip.core.messages import Agreed, Member, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.state import ClientRequest, State, then
from rqdisco.backends.gossip.core.succession import REQUEST_SECONDS
from rqdisco.core.errors import NoSuccessor

_DRAIN_SECONDS = 60.0


def drain(state: State, request: ClientRequest, command: Drain) -> None:
    """Hand all IDs of this daemon to another, and reply with the other's name. Once the handover
    has begun, this daemon decides nothing, even if the command then fails; the operator repeats it.
    Raises NoSuccessor, Frozen.
    """
    decide.check_frozen(state)
    own = state.members.own
    if own.state == "drained":
        replies.reply(state, request, succession.label(state, own.successor))
        return
    successor = _choose_successor(state, own, command.to)
    if (objection := decide.handover_objection(state)) is not None:
        raise NoSuccessor(objection)
    leaving = replace(own, state="leaving", successor=successor.incarnation)
    succession.put_members(state, [leaving], then(_begin_drain, request.number, successor))


def _begin_drain(state: State, outcome: Exception | None, number: int, successor: Member) -> None:
    if not succession.has_failed(state, number, outcome):
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
        succession.refuse(state, number, "decisions are still in progress, try again")
    else:
        state.call_at(state.now.seconds + 0.05, then(_await_decisions, number, successor, until))


def _exchange_with_successor(state: State, number: int, successor: Member) -> None:
    peer = state.peers.get(successor.incarnation)
    if peer is None:
        succession.refuse(state, number, f"{successor.name} cannot take over yet, try again: it is gone")
    else:
        exchange.begin_round(state, peer, then(_deliver_hints, number, successor, None))


def _deliver_hints(
    state: State, outcome: Exception | None, number: int, successor: Member, left: tuple[str, ...] | None
) -> None:
    """Deliver all hints, since peers accept none from a drained daemon; then hand over."""
    if left is None and isinstance(outcome, PeerError):
        succession.refuse(state, number, f"{successor.name} cannot take over yet, try again: {outcome}")
        return
    if left is None and succession.has_failed(state, number, outcome):
        return
    owners = state.hints.owners
    left = tuple(owner for owner in owners if queries.is_up(state, owner)) if left is None else left
    if left:
        on_done = then(_deliver_hints, number, successor, left[1:])
        exchange.begin_round(state, state.peers[left[0]], on_done)
    elif owners:
        names = ", ".join(succession.label(state, owner) for owner in owners)
        succession.refuse(
            state, number, f"registrations wait here for {names}: try again when it is back, or forgotten"
        )
    else:
        writes.flush(state, then(_hand_over, number, successor))


def _hand_over(state: State, outcome: Exception | None, number: int, successor: Member) -> None:
    peer = state.peers.get(successor.incarnation)
    if succession.has_failed(state, number, outcome):
        return
    if peer is None:
        succession.refuse(state, number, f"{successor.name} cannot take over yet, try again: it is gone")
        return
    if state.taking_over or state.hints.count or state.hints.undeleted:
        # The IDs of a daemon that hands them over to this one belong to what is handed over. Hints on
        # the disk show after a restart that the successor cannot have agreed.
        succession.refuse(state, number, "decisions are still in progress, try again")
        return
    state.is_handing_over = True
    upto = state.cursors.own_cursor
    proposal = SuccessionProposal(incarnation=state.own, successor=successor.incarnation, upto=upto)
    contacts.send(state, peer, "succeed", proposal, REQUEST_SECONDS, then(_succeeded, number, successor))


def _succeeded(state: State, outcome: Agreed | PeerError, number: int, successor: Member) -> None:
    if isinstance(outcome, PeerError):
        succession.refuse(state, number, f"{successor.name} cannot take over yet, try again: {outcome}")
    else:
        succession.put_members(
            state, [replace(state.members.own, state="drained")], then(_drained, number, successor.name)
        )


def _drained(state: State, outcome: Exception | None, number: int, name: str) -> None:
    if not succession.has_failed(state, number, outcome):
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
