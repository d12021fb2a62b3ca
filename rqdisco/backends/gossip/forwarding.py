"""Requests of clients that are forwarded to the home, and what came of them (R2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.backends.gossip.transport.links import BadMessage, Misdirected
from rqdisco.backends.gossip.transport.messages import Call, Outcome
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import errors
from rqdisco.core.errors import NotReady, RequestRefused, StoreUnavailable, Undecided
from rqdisco.core.records import Node, Record

_REFUSALS: dict[str, Callable[[str], RequestRefused]] = {
    kind.__name__: kind for kind in (errors.NoSuchID, errors.UnknownCreatedID, errors.TooManyNodes, errors.Ownerless)
}


class ForwardedCalls:
    """Carries out at the home what was asked elsewhere.

    `current_owner` tells the home of an incarnation's IDs; `check` raises Undecided where a record
    may be an older one (R8); `hinted` gives the nodes that this home listed while it was not ready.
    """

    def __init__(
        self,
        local: SingleDirectory,
        current_owner: Callable[[str], str],
        check: Callable[[Record], None],
        hinted: Callable[[str], Sequence[Node]],
    ) -> None:
        self._local = local
        self._current_owner = current_owner
        self._check = check
        self._hinted = hinted

    async def carry_out(self, call: Call) -> Outcome:
        """Raises RequestRefused's kinds, StoreUnavailable; Misdirected where another daemon is the
        home.
        """
        known = self._local.grants.newest(call.id)
        if known is not None and self._current_owner(known.owner) != call.owner:
            raise Misdirected
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
            # The check may add what was answered before this home was ready, so the record is read
            # after it.
            self._check(await self._local.inspect(call.id))
            return Outcome(record=await self._local.inspect(call.id), listed=tuple(self._hinted(call.id)))
        raise BadMessage("a call without what it is about")

    async def _register(self, discovery_id: str, node: Node, host: str | None) -> Outcome:
        try:
            told = await self._local.register(discovery_id, node, host)
        except NotReady as doubt:
            # Whoever forwarded this may list on this home's behalf, and knows now what it holds.
            record, listed = self._local.grants.shown(discovery_id), tuple(self._hinted(discovery_id))
            return Outcome(refusal=NotReady.__name__, reason=doubt.reason, record=record, listed=listed)
        return Outcome(record=told.record, listed=told.listed, bootstrap=told.bootstrap)


def outcome_of_refusal(refusal: RequestRefused | StoreUnavailable) -> Outcome:
    """What a refusal is on its way back."""
    if isinstance(refusal, Undecided):
        return Outcome(refusal=Undecided.__name__, reason=refusal.reason)
    if isinstance(refusal, StoreUnavailable):
        return Outcome(refusal=StoreUnavailable.__name__, reason=refusal.reason)
    return Outcome(refusal=type(refusal).__name__, reason=str(refusal))


def record_of(outcome: Outcome, discovery_id: str) -> Record:
    """The record that came back. Raises what the owner refused with; Undecided for what it may not
    decide.
    """
    if outcome.refusal is not None:
        raise refusal_from_outcome(outcome, discovery_id)
    if outcome.record is None:
        raise BadMessage("an outcome without a record")
    return outcome.record


def refusal_from_outcome(outcome: Outcome, discovery_id: str) -> Exception:
    """The owner's refusal, as it is raised here."""
    if outcome.refusal in (Undecided.__name__, NotReady.__name__):
        return Undecided(outcome.reason)
    if outcome.refusal == errors.TooManyIDs.__name__:
        return errors.TooManyIDs()
    if outcome.refusal == errors.WrongHost.__name__:
        return errors.WrongHost(outcome.reason)
    kind = _REFUSALS.get(outcome.refusal or "")
    return StoreUnavailable(outcome.reason or "the owner refuses") if kind is None else kind(discovery_id)
