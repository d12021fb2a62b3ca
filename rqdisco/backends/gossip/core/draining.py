"""Drain this daemon: it hands its IDs over to a peer before it is removed (R7)."""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import contacts, decide, exchange, hints, queries, replies, succession, writes
from rqdisco.backends.gossip.core.inputs import Drain
from rqdisco.backends.gossip.core.messages import Agreed, Member, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError
from rqdisco.backends.gossip.core.replies import continue_anyway, continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, Peer, State, ignore, then
from rqdisco.backends.gossip.core.succession import REQUEST_SECONDS
from rqdisco.core.errors import NoSuccessor, StoreUnavailable

_DRAIN_SECONDS = 60.0
_IN_PROGRESS = "decisions are still in progress, try again"


def drain(state: State, request: ClientRequest, command: Drain) -> None:
    """Hand all IDs of this daemon to another, and reply with the other's name. Once the handover
    has begun, this daemon decides nothing, even if the command then fails; the operator repeats it.
    Raises NoSuccessor, Frozen.
    """
    decide.check_frozen(state)
    _check_alone(state, request)
    own = state.members.own
    if own.state == "drained":
        replies.reply(state, request, succession.label(state, own.successor))
        return
    if own.state == "leaving" and state.is_excluded and str(state.fenced).startswith("drained"):
        # The successor has agreed, as its peers say, and its answer was lost.
        on_done = continue_with(_drained, request, succession.label(state, own.successor))
        succession.put_members(state, [replace(own, state="drained")], on_done)
        return
    successor = _choose_successor(state, own, command.to)
    _check_may_hand_over(state)
    # From now on this daemon decides nothing, even if the client goes; the same holds after a restart.
    state.successor = successor.incarnation
    leaving = replace(own, state="leaving", successor=successor.incarnation)
    on_done = continue_with(_await_decisions, request, successor, state.now.seconds + _DRAIN_SECONDS)
    succession.put_members(state, [leaving], on_done)


def _check_alone(state: State, request: ClientRequest) -> None:
    """Raise NoSuccessor while another command drains this daemon, or a successor may still answer one:
    only the last request to a successor tells whether that has agreed.
    """
    is_requested = any(isinstance(each.command, Drain) for each in state.requests.values() if each is not request)
    if is_requested or any(each.verb == "succeed" for each in state.outgoing.values()):
        raise NoSuccessor("this daemon is being drained already: wait, then repeat the command")


def _await_decisions(state: State, request: ClientRequest, _: object, successor: Member, until: float) -> None:
    """Wait until no grant and no takeover is pending, and the hints for this daemon itself are added."""
    _check_may_hand_over(state)
    if not state.pending_grants and not state.takeovers_running:
        hints.merge_all(state)
        if not state.hints.for_owner(state.own):
            exchange.begin_round(state, _peer(state, successor), continue_anyway(_exchanged, request, successor))
            return
    if state.now.seconds >= until:
        raise NoSuccessor(_IN_PROGRESS)
    state.call_at(state.now.seconds + 0.05, continue_with(_await_decisions, request, successor, until))


def _exchanged(
    state: State, request: ClientRequest, outcome: PeerError | StoreUnavailable | None, successor: Member
) -> None:
    if isinstance(outcome, PeerError):
        raise _not_yet(successor.name, outcome)
    if outcome is not None:
        raise outcome
    left = tuple(owner for owner in state.hints.owners if queries.is_up(state, owner))
    _deliver_hints(state, request, None, successor, left)


def _deliver_hints(state: State, request: ClientRequest, _: object, successor: Member, left: tuple[str, ...]) -> None:
    """Deliver all hints, since peers accept none from a drained daemon; then hand over."""
    owners = state.hints.owners
    if left:
        on_done = continue_anyway(_deliver_hints, request, successor, left[1:])
        exchange.begin_round(state, state.peers[left[0]], on_done)
    elif owners:
        _keep_ids(state, was_proposed=state.is_handing_over)
        raise NoSuccessor(_undelivered_text(state, owners))
    else:
        writes.flush(state, continue_with(_hand_over, request, successor))


def _undelivered_text(state: State, owners: list[str]) -> str:
    names = ", ".join(succession.label(state, owner) for owner in owners)
    members = [state.members.get(owner) for owner in owners if queries.is_up(state, owner)]
    if any(each is not None and each.state == "leaving" for each in members):
        return f"registrations wait here for {names}, which is being drained too: repeat that command first"
    return f"registrations wait here for {names}: try again when it has taken them, or is forgotten"


def _hand_over(state: State, request: ClientRequest, _: None, successor: Member) -> None:
    _check_may_hand_over(state)
    peer = _peer(state, successor)
    if state.takeovers_running or state.hints.count or state.hints.undeleted:
        # The IDs of a daemon that hands them over to this one belong to what is handed over. Hints on
        # the disk show after a restart that the successor cannot have agreed.
        raise NoSuccessor(_IN_PROGRESS)
    was_proposed, state.is_handing_over = state.is_handing_over, True
    upto = state.cursors.own_cursor
    proposal = SuccessionProposal(incarnation=state.own, successor=successor.incarnation, upto=upto)
    on_drained = continue_with(_drained, request, successor.name)
    on_done = then(_succeeded, successor.name, was_proposed, on_drained)
    contacts.send(state, peer, "succeed", proposal, REQUEST_SECONDS, on_done)


def _check_may_hand_over(state: State) -> None:
    """Raise NoSuccessor if this daemon may not hand its IDs over; it may have been fenced meanwhile."""
    if state.fenced is not None or not decide.is_ready(state):
        raise NoSuccessor(state.fenced or "this daemon may not decide about its IDs now")


def _succeeded(state: State, outcome: Agreed | PeerError, name: str, was_proposed: bool, on_done: Continuation) -> None:
    if isinstance(outcome, PeerError):
        if isinstance(outcome, BadMessage) and str(outcome) == succession.HANDS_OVER:
            _keep_ids(state, was_proposed=was_proposed)
        state.resume(on_done, _not_yet(name, outcome))
    else:
        # The client may have gone; the IDs have another owner all the same. Peers may have told this
        # daemon of an earlier successor meanwhile.
        drained = replace(state.members.own, state="drained", successor=outcome.successor)
        succession.put_members(state, [drained], on_done)


def _keep_ids(state: State, *, was_proposed: bool) -> None:
    """Decide again after a drain has failed, unless the successor may have agreed to an earlier proposal.
    Otherwise daemons that are drained at once, each to the next, would wait for each other.
    """
    if not was_proposed:
        state.is_handing_over, state.successor = False, None
        contacts.write_members(state, (state.own,), then(ignore))


def _not_yet(successor: str, why: object) -> NoSuccessor:
    return NoSuccessor(f"{successor} cannot take over yet, try again: {why}")


def _drained(state: State, request: ClientRequest, _: None, name: str) -> None:
    replies.reply(state, request, name)


def _peer(state: State, successor: Member) -> Peer:
    peer = state.peers.get(successor.incarnation)
    if peer is None:
        raise _not_yet(successor.name, "it is gone")
    return peer


def _choose_successor(state: State, own: Member, to: str | None) -> Member:
    others = state.members.others
    if own.successor is not None and state.members.current_owner(own.successor) != state.own:
        # The chosen successor may have taken over already, and handed over in turn.
        successor_id = state.members.current_owner(own.successor)
        chosen = [each for each in others if each.incarnation == successor_id]
    else:
        chosen = [each for each in others if to in (None, each.name) and each.state == "member"]
    for each in chosen:
        if queries.is_up(state, each.incarnation) and state.peers[each.incarnation].fenced_reason is None:
            return each
    raise NoSuccessor("no peer that could take over answers")
