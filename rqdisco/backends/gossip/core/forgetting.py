"""Forget a daemon that an operator declares lost: this one takes over its IDs once every other member
has agreed (R7).
"""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import contacts, decide, deltas, queries, replies, succession, takeover
from rqdisco.backends.gossip.core.deltas import Pulling
from rqdisco.backends.gossip.core.inputs import Forget
from rqdisco.backends.gossip.core.lost_member import find_lost
from rqdisco.backends.gossip.core.messages import Agreed, Member, Pull, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.gossip.core.state import ClientRequest, State, then
from rqdisco.backends.gossip.core.succession import REQUEST_SECONDS


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
    succession.put_members(state, [replace(each, declared_lost=True) for each in undeclared], on_done)


def _declared(state: State, outcome: Exception | None, number: int, incarnation: str) -> None:
    request, lost = state.requests.get(number), state.members.get(incarnation)
    if request is None or lost is None or succession.has_failed(state, number, outcome):
        return
    if lost.state == "forgotten":
        _take_over(state, None, number, incarnation)
        return
    leaving = replace(lost, state="leaving", successor=lost.successor or state.own)
    succession.put_members(state, [leaving], then(_ask_next, number, incarnation, ()))


def _ask_next(
    state: State, outcome: Exception | None, number: int, incarnation: str, agreeing: tuple[str, ...]
) -> None:
    """Obtain from every other member its agreement and its records of the lost one."""
    if succession.has_failed(state, number, outcome):
        return
    lost = state.members.get(incarnation)
    assert lost is not None
    # Another daemon may be told to forget it at the same time. The chosen successor may have been
    # lost as well, and have a successor.
    successor_id = state.members.current_owner(lost.successor or "")
    if successor_id != state.own:
        by = succession.label(state, successor_id)
        succession.refuse(
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
        succession.put_members(state, [forgotten], then(_take_over, number, incarnation))
        return
    member, peer = left[0], state.peers.get(left[0].incarnation)
    if peer is None or not peer.is_up:
        succession.refuse(state, number, f"{state.members.label(member)} must agree, and does not answer")
        return
    proposal = SuccessionProposal(incarnation=incarnation, successor=lost.successor or state.own)
    on_done = then(_agreed, number, proposal, member, agreeing)
    contacts.send(state, peer, "agree", proposal, REQUEST_SECONDS, on_done)


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
        succession.refuse(state, number, f"{state.members.label(member)} must agree, and does not answer: {outcome}")
    elif outcome.successor != proposal.successor:
        by = succession.label(state, outcome.successor)
        succession.refuse(
            state,
            number,
            f"{succession.label(state, proposal.incarnation)} is being forgotten by {by}: repeat the command there",
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
        succession.refuse(state, number, f"{state.members.label(member)} must agree, and does not answer: {outcome}")
    elif succession.has_failed(state, number, outcome):
        return
    elif held > state.cursors.cursor(proposal.incarnation):
        name = succession.label(state, proposal.incarnation)
        succession.refuse(
            state, number, f"{state.members.label(member)} has records of {name} that are not here yet, try again"
        )
    else:
        _ask_next(state, None, number, proposal.incarnation, (*agreeing, member.incarnation))


def _take_over(state: State, outcome: Exception | None, number: int, incarnation: str) -> None:
    if not succession.has_failed(state, number, outcome):
        takeover.take_over(state, incarnation, then(_taken_over, number), is_lost=True)


def _taken_over(state: State, outcome: int | Exception, number: int) -> None:
    if not succession.has_failed(state, number, outcome):
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
