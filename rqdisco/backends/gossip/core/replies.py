"""Answer requests: those of this daemon's clients, and those that peers forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.core import own_records, queries
from rqdisco.backends.gossip.core.calls import RemovalAtOwner, outcome_of, outcome_of_refusal
from rqdisco.backends.gossip.core.effects import ClientReply, Respond
from rqdisco.backends.gossip.core.inputs import Adopt, Register
from rqdisco.backends.gossip.core.messages import Outcome
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError
from rqdisco.backends.gossip.core.state import ClientRequest, Continuation, State
from rqdisco.core.directory import Removal
from rqdisco.core.errors import REFUSALS, NotReady, StoreUnavailable, Undecided
from rqdisco.core.records import ClaimOutcome, Record, RegistrationOutcome

P = ParamSpec("P")


def id_of(request: ClientRequest) -> str:
    """Return the ID that a request is about."""
    command: Any = request.command
    return str(command.transferred.id if isinstance(command, Adopt) else command.id)


def continue_with(
    function: Callable[Concatenate[State, ClientRequest, Any, P], None],
    request: ClientRequest,
    *args: P.args,
    **_: P.kwargs,
) -> Continuation:
    """Continue a request: call `function` with the state, the request, the outcome and `args`, unless
    its client is gone. An error, as the outcome or raised, is the reply.
    """
    return Continuation(_continue, (request.number, function, args))


def continue_anyway(
    function: Callable[Concatenate[State, ClientRequest, Any, P], None],
    request: ClientRequest,
    *args: P.args,
    **_: P.kwargs,
) -> Continuation:
    """Continue a request as `continue_with` does, if the outcome is an error as well."""
    return Continuation(_continue_anyway, (request.number, function, args))


def _continue(state: State, outcome: Any, number: int, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    request = state.requests.get(number)
    if request is not None and isinstance(outcome, Exception):
        fail(state, request, outcome)
    else:
        _continue_anyway(state, outcome, number, function, args)


def _continue_anyway(
    state: State, outcome: Any, number: int, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    request = state.requests.get(number)
    if request is None:
        return
    try:
        function(state, request, outcome, *args)
    except REFUSALS as error:
        fail(state, request, error)
    except Exception:
        # A bug, which the caller logs.
        fail(state, request, Undecided("internal error"))
        raise


def reply(state: State, request: ClientRequest, result: Any) -> None:
    """Answer a request, unless its client is gone."""
    if state.requests.pop(request.number, None) is None:
        return
    if request.respond_to is not None:
        state.effects.append(Respond(request.respond_to, outcome_of(result)))
        return
    if isinstance(result, RemovalAtOwner):
        result = Removal(record=queries.view(state, result.record), removed=result.removed)
    state.effects.append(ClientReply(request.number, result))


def reply_saved(state: State, request: ClientRequest, outcome: Record | None, result: Any) -> None:
    """Answer a request whose change is saved. The record in its result becomes the one that was saved;
    without a result, that is the answer.
    """
    if outcome is not None and isinstance(result, (RegistrationOutcome, ClaimOutcome, RemovalAtOwner)):
        result = replace(result, record=outcome)
    reply(state, request, outcome if result is None else result)


def reply_once_durable(state: State, request: ClientRequest, discovery_id: str, result: Any) -> None:
    """Answer a request that changed nothing, once what it saw is on the disk (R6)."""
    own_records.flush(state, discovery_id, continue_with(reply_saved, request, result))


def answer_grant(state: State, request: ClientRequest, result: Any) -> bool:
    """Answer a request with a grant. Report whether that counts as delivered: a client of this daemon
    may be gone, which `Delivered` tells.
    """
    if request.respond_to is not None:
        reply(state, request, result)
        return True
    state.effects.append(ClientReply(request.number, result, confirm=True))
    return False


def fail(state: State, request: ClientRequest, error: Exception) -> None:
    """Refuse a request. While the owner is not ready, its nodes may be listed all the same (R8)."""
    if request.number not in state.requests:
        return
    if isinstance(error, NotReady) and request.fallback is not None:
        state.resume(request.fallback, error.reason)
        return
    del state.requests[request.number]
    if request.respond_to is None:
        state.effects.append(ClientReply(request.number, error))
    elif isinstance(error, PeerError):
        state.effects.append(Respond(request.respond_to, error))
    elif isinstance(error, NotReady) and isinstance(request.command, Register):
        # The sender may list on this owner's behalf, and needs what this owner holds.
        shown, listed = queries.shown(state, request.command.id), tuple(state.hints.nodes(request.command.id))
        outcome = Outcome(refusal=NotReady.__name__, reason=error.reason, record=shown, listed=listed)
        state.effects.append(Respond(request.respond_to, outcome))
    else:
        state.effects.append(Respond(request.respond_to, outcome_of_refusal(error)))


def respond(state: State, number: int, answer: msgspec.Struct | Exception) -> None:
    """Answer a message of a peer, or fail it."""
    if isinstance(answer, Exception) and not isinstance(answer, PeerError):
        answer = BadMessage(answer.reason if isinstance(answer, StoreUnavailable) else str(answer))
    state.effects.append(Respond(number, answer))
