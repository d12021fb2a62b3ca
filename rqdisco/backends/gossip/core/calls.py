"""Clients' requests on their way between daemons, and the answers on the way back (R2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rqdisco.backends.gossip.core import inputs
from rqdisco.backends.gossip.core.messages import Call, Op, Outcome
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core import errors
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import Frozen, NotReady, RequestRefused, StoreUnavailable, Undecided
from rqdisco.core.records import ClaimOutcome, Record, RegistrationOutcome
from rqdisco.core.views import view_of

# Names of refusals on the wire, where they differ from the classes. Daemons of all releases must
# agree on them, to answer clients as the owner would.
_WIRE_NAMES: dict[type[RequestRefused], str] = {errors.LoopbackConflict: "AnotherMachine", errors.Ownerless: "Orphaned"}


def _wire_name(kind: type[RequestRefused]) -> str:
    return _WIRE_NAMES.get(kind, kind.__name__)


_REFUSALS: dict[str, Callable[[str], RequestRefused]] = {
    _wire_name(kind): kind
    for kind in (errors.NoSuchID, errors.UnknownCreatedID, errors.IDExists, errors.TooManyNodes, errors.Ownerless)
}
_REFUSALS_WITH_REASON: dict[str, Callable[[str], Exception]] = {
    Frozen.__name__: Frozen,
    Undecided.__name__: Undecided,
    NotReady.__name__: Undecided,
    _wire_name(errors.LoopbackConflict): errors.LoopbackConflict,
}
# The operation of each request.
OPS: dict[type, Op] = {
    inputs.CreateNamed: "create",
    inputs.Register: "register",
    inputs.Remove: "remove",
    inputs.Claim: "claim",
    inputs.ReportLeader: "report",
    inputs.ClearLeader: "clear_leader",
    inputs.LookUp: "look_up",
    inputs.Inspect: "look_up",
}
# The request of each operation, and the field of the message that it needs besides the ID.
_COMMANDS: dict[Op, tuple[Any, str | None]] = {
    "create": (inputs.CreateNamed, None),
    "register": (inputs.Register, "node"),
    "remove": (inputs.Remove, "addr"),
    "claim": (inputs.Claim, "put"),
    "report": (inputs.ReportLeader, "put"),
    "clear_leader": (inputs.ClearLeader, None),
    # A lookup that was forwarded is one at the owner.
    "look_up": (inputs.LookUp, None),
}


# Why an owner did not execute a request: by its own time, the deadline had passed.
TOO_LATE = "came too late"


class RemovalAtOwner(msgspec.Struct, frozen=True):
    """The result of a removal at the owner: the whole record, and whether it listed the address."""

    record: Record
    removed: bool


def command_of(call: Call) -> inputs.Command:
    """Return the request in a message. Raises BadMessage."""
    kind, needed = _COMMANDS[call.op]
    if needed is not None and getattr(call, needed) is None:
        raise BadMessage("call lacks its arguments")
    command: inputs.Command = kind(*(getattr(call, name, True) for name in kind.__struct_fields__))
    return command


def outcome_of(result: Any) -> Outcome:
    """Encode the result of a request."""
    if isinstance(result, RegistrationOutcome):
        return Outcome(record=result.record, listed=result.listed, bootstrap=result.bootstrap)
    if isinstance(result, RemovalAtOwner):
        return Outcome(record=result.record, yes=result.removed)
    if isinstance(result, ClaimOutcome):
        return Outcome(record=result.record, yes=result.won, again=result.again)
    if isinstance(result, Clearing):
        return Outcome(yes=result.done, removed=result.removed)
    if isinstance(result, Record):
        return Outcome(record=result)
    return result if isinstance(result, Outcome) else Outcome(yes=bool(result))


def outcome_of_refusal(refusal: Exception) -> Outcome:
    """Encode a refusal for the way back."""
    # Releases that do not know Frozen answer 503 with the reason, and no list on its behalf.
    for kind in (Frozen, Undecided, StoreUnavailable):
        if isinstance(refusal, kind):
            return Outcome(refusal=kind.__name__, reason=refusal.reason)
    assert isinstance(refusal, RequestRefused)
    return Outcome(refusal=_wire_name(type(refusal)), reason=str(refusal))


_RESULTS: dict[type, Callable[[Outcome, Record], Any]] = {
    inputs.CreateNamed: lambda _, record: record,
    inputs.Inspect: lambda _, record: record,
    inputs.LookUp: lambda outcome, record: view_of(record, is_owner=True, hinted=outcome.listed),
    inputs.Remove: lambda outcome, record: Removal(record=view_of(record, is_owner=True), removed=outcome.yes),
    inputs.Claim: lambda outcome, record: ClaimOutcome(record=record, won=outcome.yes, again=outcome.again),
}


def result_of(command: inputs.Command, outcome: Outcome) -> Any:
    """Return the result of a request that its owner executed, and did not refuse."""
    record = outcome.record
    if isinstance(command, inputs.Register) and record is not None:
        return RegistrationOutcome(record=record, listed=outcome.listed, bootstrap=outcome.bootstrap)
    if isinstance(command, inputs.ReportLeader):
        return outcome.yes
    if isinstance(command, inputs.ClearLeader):
        return Clearing(done=outcome.yes, removed=outcome.removed)
    if outcome.record is None:
        return StoreUnavailable("the owner's answer lacks the record")
    return _RESULTS[type(command)](outcome, outcome.record)


def refusal_of(outcome: Outcome, discovery_id: str) -> Exception:
    """Return the owner's refusal as the exception to raise here."""
    refusal = outcome.refusal or ""
    if (with_reason := _REFUSALS_WITH_REASON.get(refusal)) is not None:
        return with_reason(outcome.reason)
    if refusal == errors.TooManyIDs.__name__:
        return errors.TooManyIDs()
    kind = _REFUSALS.get(refusal)
    return StoreUnavailable(outcome.reason or "refused by the owner") if kind is None else kind(discovery_id)
