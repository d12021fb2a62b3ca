"""Give the IDs of a daemon that is gone for good a new owner (R7): the answers to the peers that do so,
and the common parts of `forgetting` and `draining`.
"""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.gossip.core import contacts, decide, exchange, replies, takeover
from rqdisco.backends.gossip.core.messages import Agreed, Member, SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.backends.gossip.core.state import Continuation, State, then
from rqdisco.core.errors import StoreUnavailable

REQUEST_SECONDS = 5.0
# The answer of a daemon that is being drained itself: it does not agree, and nothing changes.
HANDS_OVER = "this daemon hands its own IDs over"
_UNKNOWN = "no such member"


def agree(state: State, number: int, proposal: SuccessionProposal) -> None:
    """Answer a proposal that a member is gone for good."""
    member = state.members.get(proposal.incarnation)
    if member is None or state.frozen is not None:
        replies.respond(state, number, BadMessage(state.frozen or _UNKNOWN))
        return
    state.members.learn([replace(member, state="leaving", successor=proposal.successor)])
    # If that is known already, the disk may have refused it.
    contacts.write_members(state, (member.incarnation,), then(_agree, number, member.incarnation))


def _agree(state: State, outcome: Exception | None, number: int, incarnation: str) -> None:
    member = state.members.get(incarnation)
    if outcome is not None or member is None:
        replies.respond(state, number, outcome or BadMessage(_UNKNOWN))
    else:
        held = state.cursors.cursor(incarnation)
        replies.respond(state, number, Agreed(successor=member.successor or "", held=held))


def succeed(state: State, number: int, proposal: SuccessionProposal) -> None:
    """Become the owner of IDs that their owner hands over."""
    peer = state.peers.get(proposal.incarnation)
    if peer is None or state.frozen is not None:
        _check_succession(state, None, number, proposal)
    else:
        # The sender may be the last to hold decisions of another member, which is down.
        exchange.begin_round(state, peer, then(_check_succession, number, proposal), is_hinting=False)


def _check_succession(state: State, outcome: Exception | None, number: int, proposal: SuccessionProposal) -> None:
    member, peer = state.members.get(proposal.incarnation), state.peers.get(proposal.incarnation)
    own = state.members.own
    is_behind = peer is not None and bool(state.cursors.owners_ahead(peer.held))
    held = state.cursors.cursor(proposal.incarnation)
    error: str | None = None
    if (stopped := state.frozen or state.fenced) is not None:
        error = stopped
    elif outcome is not None:
        error = outcome.reason if isinstance(outcome, StoreUnavailable) else str(outcome) or type(outcome).__name__
    elif own.state in ("drained", "forgotten"):
        error = "this daemon has left"
    elif member is None or proposal.successor != state.own:
        error = "this daemon is not the chosen successor"
    elif state.is_handing_over and not _may_cross(state, member):
        # Its own successor may have agreed already, up to its last version before these IDs.
        error = HANDS_OVER
    elif is_behind or held < proposal.upto:
        error = "not all records are here yet"
    elif not decide.is_ready(state):
        error = "not ready yet"
    if error is not None or member is None:
        replies.respond(state, number, BadMessage(error or ""))
        return
    drained = replace(member, state="drained", successor=state.own)
    takeover.take_over(state, drained, then(_confirm, number, held))


def _may_cross(state: State, member: Member) -> bool:
    """Report whether a daemon that hands its IDs over may take those of another: the other one is its
    successor, and does not agree to that. If each chose the other, only one of both may agree.
    """
    is_mutual = member.successor == state.own
    return state.members.own.successor == member.incarnation and not (is_mutual and state.own > member.incarnation)


def _confirm(state: State, outcome: int | Exception, number: int, held: int) -> None:
    replies.respond(
        state, number, outcome if isinstance(outcome, Exception) else Agreed(successor=state.own, held=held)
    )


def put_members(state: State, members: list[Member], on_done: Continuation) -> None:
    """Change members at once, so that what is learned about them during the write is added to that, and
    write them. The outcome is that of the first attempt; if the disk refuses, they are written later.
    """
    for member in members:
        state.members.put(member)
    contacts.write_members(state, tuple(each.incarnation for each in members), on_done)


def label(state: State, incarnation: str | None) -> str:
    """Return the name of a member, or its incarnation if it is unknown."""
    member = None if incarnation is None else state.members.get(incarnation)
    return str(incarnation) if member is None else state.members.label(member)
