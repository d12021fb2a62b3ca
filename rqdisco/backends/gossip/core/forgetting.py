"""Forget a daemon that an operator declares lost: this one takes over its IDs once every other member
has agreed (R7).
"""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import contacts, decide, deltas, queries, replies, succession, takeover
from rqdisco.backends.gossip.core.deltas import PullJob
from rqdisco.backends.gossip.core.inputs import Forget
from rqdisco.backends.gossip.core.lost_member import find_lost
from rqdisco.backends.gossip.core.messages import Agreed, Member, Pull, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.replies import continue_anyway, continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, State
from rqdisco.backends.gossip.core.succession import REQUEST_SECONDS
from rqdisco.core.errors import NoSuccessor, StoreUnavailable


def forget(state: State, request: ClientRequest, command: Forget) -> None:
    """Make this daemon the owner of the IDs of a lost one; the reply is their number.

    Every other member must answer and agree, except those declared lost here or elsewhere that have
    not come back: where two are lost, forgetting each in turn, and then the first again, forgets both.
    A repeated request resumes an interrupted one. Raises NoSuccessor, Frozen.
    """
    decide.check_frozen(state)
    _check_unfenced(state)
    lost = find_lost(state, command.name)
    all_lost = _lost_incarnations(state, lost)
    for each in all_lost:
        if (peer := state.peers.get(each.incarnation)) is not None:
            peer.came_back = False
    undeclared = [each for each in all_lost if not each.declared_lost]
    on_done = continue_with(_declared, request, lost.incarnation)
    succession.put_members(state, [replace(each, declared_lost=True) for each in undeclared], on_done)


def _declared(state: State, request: ClientRequest, _: None, incarnation: str) -> None:
    lost = _still_lost(state, incarnation)
    if lost.state == "forgotten":
        # The disk may have refused that.
        takeover.take_over(state, lost, continue_with(replies.reply, request))
    else:
        leaving = replace(lost, state="leaving", successor=lost.successor or state.own)
        succession.put_members(state, [leaving], continue_with(_ask_next, request, incarnation, ()))


def _ask_next(state: State, request: ClientRequest, _: None, incarnation: str, agreeing: tuple[str, ...]) -> None:
    """Obtain from every other member its agreement and its records of the lost one."""
    _check_unfenced(state)
    lost = _still_lost(state, incarnation)
    # Another daemon may be told to forget it at the same time. The chosen successor may have been
    # lost as well, and have a successor.
    successor_id = state.members.current_owner(lost.successor or "")
    if successor_id != state.own:
        by, name = succession.label(state, successor_id), state.members.label(lost)
        raise NoSuccessor(f"{name} is being forgotten already, by {by}: repeat the command there")
    left = [each for each in state.members.others if each.incarnation not in agreeing and _must_agree(state, each)]
    if not left:
        forgotten = replace(lost, state="forgotten")
        # While the disk writes this, no other successor may be agreed to.
        state.members.put(forgotten)
        takeover.take_over(state, forgotten, continue_with(replies.reply, request))
        return
    member, peer = left[0], state.peers.get(left[0].incarnation)
    if peer is None or not peer.is_up:
        name, advice = state.members.label(member), f"wait, or forget {member.incarnation} first if it is lost too"
        raise NoSuccessor(f"{name} must agree, and does not answer: {advice}")
    proposal = SuccessionProposal(incarnation=incarnation, successor=lost.successor or state.own)
    on_done = continue_anyway(_agreed, request, proposal, member, agreeing)
    contacts.send(state, peer, "agree", proposal, REQUEST_SECONDS, on_done)


def _must_agree(state: State, member: Member) -> bool:
    peer = state.peers.get(member.incarnation)
    return not member.declared_lost or (peer is not None and (peer.is_up or peer.came_back))


def _agreed(
    state: State,
    request: ClientRequest,
    outcome: Agreed | PeerError,
    proposal: SuccessionProposal,
    member: Member,
    agreeing: tuple[str, ...],
) -> None:
    if isinstance(outcome, PeerError):
        raise _unagreed(state, member, outcome)
    if outcome.successor != proposal.successor:
        name, by = succession.label(state, proposal.incarnation), succession.label(state, outcome.successor)
        raise NoSuccessor(f"{name} is being forgotten by {by}: repeat the command there")
    peer = state.peers.get(member.incarnation)
    if peer is None:
        raise NoSuccessor(f"{state.members.label(member)} is gone meanwhile, try again")
    # From version 0 on: an owner on an older disk may have given other members records that lie below
    # the cursor here.
    on_done = continue_anyway(_pulled, request, proposal.incarnation, member, outcome.held, agreeing)
    deltas.pull(state, PullJob(peer.key, on_done), Pull(owner=proposal.incarnation, after=0))


def _pulled(
    state: State,
    request: ClientRequest,
    outcome: PeerError | StoreUnavailable | None,
    incarnation: str,
    member: Member,
    held: int,
    agreeing: tuple[str, ...],
) -> None:
    if isinstance(outcome, PeerError):
        raise _unagreed(state, member, outcome)
    if outcome is not None:
        raise outcome
    if held > state.cursors.cursor(incarnation):
        name, of = state.members.label(member), succession.label(state, incarnation)
        raise NoSuccessor(f"{name} has records of {of} that are not here yet, try again")
    _ask_next(state, request, None, incarnation, (*agreeing, member.incarnation))


def _unagreed(state: State, member: Member, error: PeerError) -> NoSuccessor:
    doubt = "does not" if contacts.is_refusal(error) else "does not answer"
    return NoSuccessor(f"{state.members.label(member)} must agree, and {doubt}: {contacts.error_text(error)}")


def _check_unfenced(state: State) -> None:
    if state.fenced is not None:
        raise NoSuccessor(state.fenced)


def _still_lost(state: State, incarnation: str) -> Member:
    """Return the member to forget. Raises NoSuccessor if it came back, or had handed its IDs over."""
    lost = state.members.get(incarnation)
    assert lost is not None
    if lost.state == "drained" or queries.is_up(state, incarnation):
        why = "has handed its IDs over" if lost.state == "drained" else "answers again"
        raise NoSuccessor(f"{state.members.label(lost)} {why}")
    return lost


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
