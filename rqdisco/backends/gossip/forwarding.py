"""Client requests forwarded to the owner, and their outcomes (R2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.backends.gossip.transport.links import BadMessage, Misdirected
from rqdisco.backends.gossip.transport.messages import Call, Outcome
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import errors
from rqdisco.core.errors import Frozen, NotReady, RequestRefused, StoreUnavailable, Undecided
from rqdisco.core.records import Node, Record

# Names of refusals on the wire, where they differ from the classes. Daemons of all releases must
# agree on them, to answer clients as the owner would.
_WIRE_NAMES: dict[type[RequestRefused], str] = {errors.LoopbackConflict: "AnotherMachine", errors.Ownerless: "Orphaned"}


def _wire_name(kind: type[RequestRefused]) -> str:
    return _WIRE_NAMES.get(kind, kind.__name__)


_REFUSALS: dict[str, Callable[[str], RequestRefused]] = {
    _wire_name(kind): kind
    for kind in (errors.NoSuchID, errors.UnknownCreatedID, errors.IDExists, errors.TooManyNodes, errors.Ownerless)
}


class ForwardedRequests:
    """Executes at the owner the requests that other daemons forward.

    `current_owner` maps an incarnation to the owner of its IDs, `owner_of_name` a name to the owner
    of an ID that does not exist yet; `check` raises Undecided where a
    record may be outdated (R8); `hinted` returns the nodes that this owner listed before it was
    ready.
    """

    def __init__(
        self,
        local: SingleDirectory,
        current_owner: Callable[[str], str],
        owner_of_name: Callable[[str], str],
        check: Callable[[Record], None],
        hinted: Callable[[str], Sequence[Node]],
    ) -> None:
        self._local = local
        self._current_owner = current_owner
        self._owner_of_name = owner_of_name
        self._check = check
        self._hinted = hinted

    async def execute(self, call: Call) -> Outcome:
        """Execute a request. Raises RequestRefused's kinds, StoreUnavailable; Misdirected if
        another daemon is the owner.
        """
        known = self._local.grants.newest(call.id)
        if known is not None and self._current_owner(known.owner) != call.owner:
            raise Misdirected
        if call.op == "create":
            if known is None and self._owner_of_name(call.id) != call.owner:
                # A member joined while the request was on its way, and may create the ID itself.
                raise Misdirected
            return Outcome(record=await self._local.create_named(call.id))
        return await self._execute_for_id(call)

    async def _execute_for_id(self, call: Call) -> Outcome:
        if call.op == "register" and call.node is not None:
            return await self._register(call.id, call.node, call.host)
        if call.op == "remove" and call.addr is not None:
            record, removed = await self._local.remove_from(call.id, call.addr)
            return Outcome(record=record, yes=removed)
        if call.op == "claim" and call.put is not None:
            claim = await self._local.claim(call.id, call.put, call.host)
            return Outcome(record=claim.record, yes=claim.won, again=claim.again)
        if call.op == "report" and call.put is not None:
            return Outcome(yes=await self._local.report(call.id, call.put, call.host, call.index))
        if call.op == "clear_leader":
            clearing = await self._local.clear_leader(call.id, call.index)
            return Outcome(yes=clearing.done, removed=clearing.removed)
        if call.op == "look_up":
            # The check may add registrations answered before this owner was ready, so read the
            # record after it.
            self._check(await self._local.inspect(call.id))
            return Outcome(record=await self._local.inspect(call.id), listed=tuple(self._hinted(call.id)))
        raise BadMessage("call lacks its arguments")

    async def _register(self, discovery_id: str, node: Node, host: str | None) -> Outcome:
        try:
            registration = await self._local.register(discovery_id, node, host)
        except NotReady as doubt:
            # The sender may list on this owner's behalf, and needs what this owner holds.
            record, listed = self._local.grants.shown(discovery_id), tuple(self._hinted(discovery_id))
            return Outcome(refusal=NotReady.__name__, reason=doubt.reason, record=record, listed=listed)
        return Outcome(record=registration.record, listed=registration.listed, bootstrap=registration.bootstrap)


def outcome_of_refusal(refusal: RequestRefused | StoreUnavailable) -> Outcome:
    """Encode a refusal for the way back."""
    if isinstance(refusal, Frozen):
        # Releases that do not know this name answer 503 with the reason, and no list on its behalf.
        return Outcome(refusal=Frozen.__name__, reason=refusal.reason)
    if isinstance(refusal, Undecided):
        return Outcome(refusal=Undecided.__name__, reason=refusal.reason)
    if isinstance(refusal, StoreUnavailable):
        return Outcome(refusal=StoreUnavailable.__name__, reason=refusal.reason)
    return Outcome(refusal=_wire_name(type(refusal)), reason=str(refusal))


def record_of(outcome: Outcome, discovery_id: str) -> Record:
    """Return the record of an outcome. Raises the owner's refusal; Undecided where the owner may
    not decide.
    """
    if outcome.refusal is not None:
        raise refusal_from_outcome(outcome, discovery_id)
    if outcome.record is None:
        raise BadMessage("outcome lacks a record")
    return outcome.record


def refusal_from_outcome(outcome: Outcome, discovery_id: str) -> Exception:
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
