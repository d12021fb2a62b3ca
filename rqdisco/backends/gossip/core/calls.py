"""Clients' requests on their way between daemons, and the answers on the way back (R2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.inputs import (
    Claim,
    ClearLeader,
    Command,
    CreateNamed,
    Inspect,
    LookUp,
    Register,
    Remove,
    ReportLeader,
)
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
# The operation of each request.
OPS: dict[type, Op] = {
    CreateNamed: "create",
    Register: "register",
    Remove: "remove",
    Claim: "claim",
    ReportLeader: "report",
    ClearLeader: "clear_leader",
    LookUp: "look_up",
    Inspect: "look_up",
}
# The request of each operation, and the field of the message that it needs besides the ID.
_COMMANDS: dict[Op, tuple[Any, str | None]] = {
    "create": (CreateNamed, None),
    "register": (Register, "node"),
    "remove": (Remove, "addr"),
    "claim": (Claim, "put"),
    "report": (ReportLeader, "put"),
    "clear_leader": (ClearLeader, None),
    # A lookup that was forwarded is one at the owner.
    "look_up": (LookUp, None),
}


class RemovalAtOwner(msgspec.Struct, frozen=True):
    """The result of a removal at the owner: the whole record, and whether it listed the address."""

    record: Record
    removed: bool


def command_of(call: Call) -> Command:
    """Return the request in a message. Raises BadMessage."""
    kind, needed = _COMMANDS[call.op]
    if needed is not None and getattr(call, needed) is None:
        raise BadMessage("call lacks its arguments")
    command: Command = kind(*(getattr(call, name, True) for name in kind.__struct_fields__))
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
    if isinstance(refusal, Frozen):
        # Releases that do not know this name answer 503 with the reason, and no list on its behalf.
        return Outcome(refusal=Frozen.__name__, reason=refusal.reason)
    if isinstance(refusal, Undecided):
        return Outcome(refusal=Undecided.__name__, reason=refusal.reason)
    if isinstance(refusal, StoreUnavailable):
        return Outcome(refusal=StoreUnavailable.__name__, reason=refusal.reason)
    assert isinstance(refusal, RequestRefused)
    return Outcome(refusal=_wire_name(type(refusal)), reason=str(refusal))


_RESULTS: dict[type, Callable[[Outcome, Record], Any]] = {
    CreateNamed: lambda _, record: record,
    Inspect: lambda _, record: record,
    LookUp: lambda outcome, record: view_of(record, is_owner=True, hinted=outcome.listed),
    Remove: lambda outcome, record: Removal(record=view_of(record, is_owner=True), removed=outcome.yes),
    Claim: lambda outcome, record: ClaimOutcome(record=record, won=outcome.yes, again=outcome.again),
}


def result_of(command: Command, outcome: Outcome) -> Any:
    """Return the result of a request that its owner executed, and did not refuse."""
    record = outcome.record
    if isinstance(command, Register) and record is not None:
        return RegistrationOutcome(record=record, listed=outcome.listed, bootstrap=outcome.bootstrap)
    if isinstance(command, ReportLeader):
        return outcome.yes
    if isinstance(command, ClearLeader):
        return Clearing(done=outcome.yes, removed=outcome.removed)
    if outcome.record is None:
        return StoreUnavailable("the owner's answer lacks the record")
    return _RESULTS[type(command)](outcome, outcome.record)


def refusal_of(outcome: Outcome, discovery_id: str) -> Exception:
    """Return the owner's refusal as the exception to raise here."""
    if outcome.refusal == Frozen.__name__:
        return Frozen(outcome.reason)
    if outcome.refusal in (Undecided.__name__, NotReady.__name__):
        return Undecided(outcome.reason)
    if outcome.refusal == errors.TooManyIDs.__name__:
        return errors.TooManyIDs()
    if outcome.refusal == _wire_name(errors.LoopbackConflict):
        return errors.LoopbackConflict(outcome.reason)
    kind = _REFUSALS.get(outcome.refusal or "")
    return StoreUnavailable(outcome.reason or "refused by the owner") if kind is None else kind(discovery_id)
