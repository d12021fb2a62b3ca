"""Route each request of a client to the owner of its ID, in one hop (R2); or answer on the owner's
behalf where that is safe (R4).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.core import (
    confirming,
    contacts,
    convergence,
    decide,
    exchange,
    hints,
    inputs,
    queries,
    replies,
    requests,
)
from rqdisco.backends.gossip.core.calls import OPS, TOO_LATE, refusal_of, result_of
from rqdisco.backends.gossip.core.messages import NAMED_IDS, Call, Outcome
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError
from rqdisco.backends.gossip.core.replies import continue_anyway, continue_with
from rqdisco.backends.gossip.core.state import ClientRequest, State, then
from rqdisco.core import errors
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.ids import is_created_id, owner_tag
from rqdisco.core.records import Moment, RegistrationOutcome
from rqdisco.core.views import view_of

# Part of the 8 s limit for an answer (P4), which leaves time to answer on the owner's behalf.
FORWARD_SECONDS = 4.5
LOOK_UP_SECONDS = 2.0
_MARGIN_SECONDS = 0.5
_RECENT_SECONDS = 1.5
_UNREACHABLE = "the owner of this ID does not answer"


def route(state: State, request: ClientRequest) -> None:
    """Execute a client's request here, or at the owner. Raises a subclass of RequestRefused, or
    StoreUnavailable.
    """
    command: Any = request.command
    if isinstance(command, (inputs.Register, inputs.Claim, inputs.ReportLeader)):
        command = request.command = replace(command, host=queries.name_host(state, command.host))
    if isinstance(command, inputs.Register):
        request.fallback = continue_anyway(_on_behalf, request, Outcome())
    if isinstance(command, inputs.Adopt):
        _route_import(state, request, command)
        return
    if isinstance(command, inputs.CreateNamed) and queries.shown(state, command.id) is not None:
        raise errors.IDExists(command.id)
    if not isinstance(command, (inputs.LookUp, inputs.Inspect)):
        decide.check_frozen(state)
    elif not (isinstance(command, inputs.LookUp) and command.at_owner):
        record = queries.inspect(state, command.id)
        if record is not None:
            replies.reply(
                state, request, record if isinstance(command, inputs.Inspect) else queries.view(state, record)
            )
            return
    known = state.store.newest(command.id)
    if known is not None:
        _execute_at(state, request, queries.owner(state, known))
    elif is_created_id(command.id):
        request.is_unknown, request.candidates = True, _creators(state, command.id)
        _ask_next(state, request)
    else:
        _route_new(state, request)


def _execute_at(state: State, request: ClientRequest, owner: str) -> None:
    if owner == state.own:
        requests.run(state, request)
    else:
        forward(state, request, owner)


def _creators(state: State, discovery_id: str) -> list[str]:
    """Return the owners of IDs with the tag of this one: it may not be replicated here yet (R1)."""
    tagged = state.members.tagged(owner_tag(discovery_id))
    return list(dict.fromkeys(state.members.current_owner(each.incarnation) for each in tagged))


def _ask_next(state: State, request: ClientRequest) -> None:
    """Execute a request for an ID that is unknown here at the next daemon that may have created it."""
    command: Any = request.command
    while request.candidates:
        owner = request.candidates.pop(0)
        if owner == state.own:
            try:
                # It may have to recover the ID first (R8).
                decide.check_may_change(state, command.id)
            except errors.NotReady as doubt:
                request.doubt = doubt
            continue
        try:
            forward(state, request, owner)
        except errors.OwnerUnreachable as error:
            request.doubt = error
            continue
        return
    request.is_unknown = False
    if request.doubt is None and (state.unidentified or any(each.has_unmet for each in state.peers.values())):
        # A daemon that was never contacted, here or by a peer, may be the creator.
        request.doubt = errors.Undecided("not all peers were contacted yet")
    if request.doubt is not None:
        replies.fail(state, request, request.doubt)
    elif isinstance(command, inputs.ReportLeader):
        _route_new(state, request)
    else:
        # A created ID must not come into being twice.
        kind = errors.UnknownCreatedID if isinstance(command, (inputs.Claim, inputs.ClearLeader)) else errors.NoSuchID
        replies.fail(state, request, kind(command.id))


def _route_new(state: State, request: ClientRequest) -> None:
    """Execute a request for a new ID at the daemon that will own it."""
    if not isinstance(request.command, (inputs.Claim, inputs.ReportLeader, inputs.ClearLeader, inputs.CreateNamed)):
        raise errors.NoSuchID(replies.id_of(request))
    convergence.wait(state, continue_with(_converged, request))


def _converged(state: State, request: ClientRequest, is_converged: bool) -> None:
    command: Any = request.command
    if not is_converged:
        is_creation = isinstance(command, inputs.CreateNamed)
        why = f"cannot create a name while {convergence.objection(state)}" if is_creation else decide.DISAGREE
        raise errors.Undecided(why)
    known = state.store.newest(replies.id_of(request))
    if isinstance(command, inputs.Adopt):
        _import(state, request, known is None or queries.owner(state, known) == state.own)
    elif known is not None:
        _execute_at(state, request, queries.owner(state, known))
    else:
        owner = state.members.get(state.members.owner_of_name(command.id))
        assert owner is not None
        if isinstance(command, inputs.CreateNamed) and NAMED_IDS not in owner.features:
            raise errors.Undecided(f"{owner.name} must be upgraded first")
        _execute_at(state, request, owner.incarnation)


def _route_import(state: State, request: ClientRequest, command: inputs.Adopt) -> None:
    known = state.store.newest(command.transferred.id)
    if known is None:
        confirming.confirm(state, continue_with(_converged, request))
    else:
        _import(state, request, queries.owner(state, known) == state.own)


def _import(state: State, request: ClientRequest, is_own: bool) -> None:
    if not is_own:
        raise errors.Undecided("another daemon owns this ID: import it there")
    requests.run(state, request)


def forward(state: State, request: ClientRequest, owner: str, *, is_contacted: bool = False) -> None:
    """Forward a request once (R2), after an exchange with the owner if there was none in this session,
    unless it `is_contacted`. Raises OwnerUnreachable if the owner is not up.
    """
    command: inputs.Command = request.command
    peer, now = state.peers.get(owner), state.now.seconds
    # Contact after the last failure justifies an attempt.
    is_recent = peer is not None and peer.contacted_at is not None and now - peer.contacted_at < _RECENT_SECONDS
    if peer is None or not (peer.is_up or is_recent):
        if request.fallback is not None and not request.is_unknown:
            state.resume(request.fallback, _UNREACHABLE)
            return
        raise errors.OwnerUnreachable(_UNREACHABLE)
    clock = peer.remote_clock
    if not is_contacted and (clock is None or clock.session_number != peer.session_number):
        # Without the owner's own time, a message that is delayed on its way would count as a new one;
        # by its time before a restart, each would be too late.
        exchange.begin_round(state, peer, continue_anyway(_owner_contacted, request, owner))
        return
    if request.is_unknown and isinstance(command, (inputs.ReportLeader, inputs.ClearLeader)):
        # The creator would create it for a report, and has nothing to clear.
        command = inputs.LookUp(replies.id_of(request), at_owner=True)
    is_look_up = isinstance(command, (inputs.LookUp, inputs.Inspect))
    seconds = LOOK_UP_SECONDS if is_look_up else FORWARD_SECONDS
    seconds = max(seconds - (now - request.began_at), 2 * _MARGIN_SECONDS)
    left = seconds - _MARGIN_SECONDS
    name = f"{state.config.run_id}-{request.number}"
    until: Moment | None = None
    if clock is not None:
        # A lower bound of the owner's own time at the deadline.
        until = Moment(clock.moment.boot, clock.moment.ms + int((now - clock.received_at + left) * 1000))
    fields = msgspec.structs.asdict(command)
    fields.pop("at_owner", None)
    op, ms = OPS[type(command)], int(left * 1000)
    call = Call(owner=owner, op=op, request=name, ms=ms, until=until, **fields)
    on_done = then(_answered, request.number, owner, is_contacted)
    request.sent = contacts.send(state, peer, "call", call, seconds, on_done)


def _owner_contacted(state: State, request: ClientRequest, outcome: Exception | None, owner: str) -> None:
    if outcome is not None:
        _unanswered(state, request, outcome, owner)
    else:
        forward(state, request, owner, is_contacted=True)


def _answered(state: State, outcome: Outcome | PeerError, number: int, owner: str, is_contacted: bool) -> None:
    request = state.requests.get(number)
    if request is None:
        return
    if isinstance(outcome, Outcome) and outcome.refusal is None and not request.is_unknown:
        replies.reply(state, request, result_of(request.command, outcome))
    else:
        state.resume(continue_anyway(_process_answer, request, owner, is_contacted), outcome)


def _process_answer(
    state: State, request: ClientRequest, outcome: Outcome | PeerError, owner: str, is_contacted: bool
) -> None:
    """Process a refusal, an error, or the answer about an ID that is unknown here."""
    command: Any = request.command
    peer = state.peers.get(owner)
    if _was_not_processed(outcome) and not is_contacted and peer is not None:
        exchange.begin_round(state, peer, continue_anyway(_owner_contacted, request, owner))
    elif isinstance(outcome, PeerError):
        _unanswered(state, request, outcome, owner)
    elif outcome.refusal == errors.NotReady.__name__ and isinstance(command, inputs.Register):
        _on_behalf(state, request, outcome.reason, outcome)
    elif outcome.refusal is not None:
        _refused(state, request, refusal_of(outcome, command.id))
    elif isinstance(command, (inputs.ReportLeader, inputs.ClearLeader)) and outcome.record is not None:
        # The owner was asked for the ID only.
        request.is_unknown = False
        _execute_at(state, request, queries.owner(state, outcome.record))
    else:
        replies.reply(state, request, result_of(command, outcome))


def _was_not_processed(outcome: Outcome | PeerError) -> bool:
    """Report whether the owner certainly did not execute a request, but may do so after an exchange: one
    of both restarted, the session expired, or this host slept and no longer knows the owner's time.
    """
    if isinstance(outcome, PeerError):
        return isinstance(outcome, NotGreeted)
    return (outcome.refusal, outcome.reason) == (StoreUnavailable.__name__, TOO_LATE)


def _unanswered(state: State, request: ClientRequest, error: Exception, owner: str) -> None:
    """Continue with a request that the owner did not answer."""
    why = str(error) or type(error).__name__
    state.log("warn", "no answer to a forwarded request: {why}", why=why, owner=owner)
    if request.fallback is not None and not request.is_unknown:
        state.resume(request.fallback, _UNREACHABLE)
    else:
        _refused(state, request, errors.OwnerUnreachable(_UNREACHABLE))


def _refused(state: State, request: ClientRequest, refusal: Exception) -> None:
    """Continue after a refusal by the owner. That is final, since this copy may lack what the owner has;
    of an ID that is unknown here another daemon may be the owner.
    """
    if request.is_unknown and isinstance(refusal, (errors.NoSuchID, errors.StoreUnavailable)):
        if isinstance(refusal, errors.StoreUnavailable):
            request.doubt = refusal
        _ask_next(state, request)
    else:
        replies.fail(state, request, refusal)


def _on_behalf(state: State, request: ClientRequest, why: str, reply: Outcome) -> None:
    """Answer a registration from the copy, and store it as a hint for the owner (R4). `reply` is what
    the owner holds, if it answered.
    """
    request.fallback, command = None, cast("inputs.Register", request.command)
    copy = decide.copy_to_list(state, command.id, command.node, command.host, why, reply.record)
    on_done = then(_hint_stored, request.number, why, reply)
    hints.store(state, queries.owner(state, copy), command.id, command.node, command.host, on_done)


def _hint_stored(state: State, outcome: int | StoreUnavailable, number: int, why: str, reply: Outcome) -> None:
    request = state.requests.get(number)
    if request is None and isinstance(outcome, int):
        hints.withdraw(state, outcome)
    elif request is not None:
        state.resume(continue_with(_list_on_behalf, request, why, reply), outcome)


def _list_on_behalf(state: State, request: ClientRequest, hint: int, why: str, reply: Outcome) -> None:
    command = cast("inputs.Register", request.command)
    try:
        # The record may have changed while the hint was written, so check and answer with it now.
        copy = decide.copy_to_list(state, command.id, command.node, command.host, why, reply.record)
    except errors.REFUSALS:
        hints.withdraw(state, hint)
        raise
    hints.mark_answered(state, hint)
    hinted = [*reply.listed, *state.hints.nodes(command.id), command.node]
    listed = view_of(copy, is_owner=False, hinted=hinted).nodes
    replies.reply(state, request, RegistrationOutcome(record=copy, listed=listed, on_behalf=True))
