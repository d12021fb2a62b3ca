"""Requests of clients that are forwarded to the home, and what came of them (R2)."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco import errors
from rqdisco.errors import RequestRefused, StoreUnavailable, Undecided
from rqdisco.home.local import LocalDirectory
from rqdisco.peers.wire.links import BadMessage, Misdirected
from rqdisco.peers.wire.messages import Call, Outcome
from rqdisco.records import Record

_REFUSALS: dict[str, type[RequestRefused]] = {
    kind.__name__: kind for kind in (errors.NoSuchID, errors.TooManyNodes, errors.TooManyIDs, errors.Orphaned)
}


class Caller:
    """Carries out at the home what was asked elsewhere.

    `home_now` tells the home of an incarnation's IDs; `check` raises Undecided where a record may be an older one (R8).
    """

    def __init__(self, local: LocalDirectory, home_now: Callable[[str], str], check: Callable[[Record], None]) -> None:
        self._local = local
        self._home_now = home_now
        self._check = check

    async def carry_out(self, call: Call) -> Outcome:
        """Raises RequestRefused's kinds, StoreUnavailable; Misdirected where another daemon is the home."""
        known = self._local.known(call.id)
        if known is not None and self._home_now(known.home) != call.home:
            raise Misdirected
        if call.op == "register" and call.node is not None:
            told = await self._local.register(call.id, call.node)
            return Outcome(record=told.record, listed=told.listed, alone=told.alone)
        if call.op == "remove" and call.addr is not None:
            removal = await self._local.remove(call.id, call.addr)
            return Outcome(record=removal.record, yes=removal.removed)
        if call.op == "claim" and call.put is not None:
            claim = await self._local.claim(call.id, call.put)
            return Outcome(record=claim.record, yes=claim.won)
        if call.op == "report" and call.put is not None:
            return Outcome(yes=await self._local.report(call.id, call.put, call.index))
        if call.op == "clear_leader":
            return Outcome(yes=await self._local.clear_leader(call.id, call.index))
        if call.op == "look_up":
            record = await self._local.look_up(call.id)
            self._check(record)
            return Outcome(record=record)
        raise BadMessage("a call without what it is about")


def outcome_of_refusal(refusal: RequestRefused | StoreUnavailable) -> Outcome:
    """What a refusal is on its way back."""
    if isinstance(refusal, StoreUnavailable):
        return Outcome(refusal=type(refusal).__name__, reason=refusal.reason)
    return Outcome(refusal=type(refusal).__name__)


def record_of(outcome: Outcome, discovery_id: str) -> Record:
    """The record that came back. Raises what the home refused with; Undecided for what it may not decide."""
    if outcome.refusal is not None:
        raise refusal_of(outcome, discovery_id)
    if outcome.record is None:
        raise BadMessage("an outcome without a record")
    return outcome.record


def refusal_of(outcome: Outcome, discovery_id: str) -> Exception:
    """The home's refusal, as it is raised here."""
    if outcome.refusal == Undecided.__name__:
        return Undecided(outcome.reason)
    kind = _REFUSALS.get(outcome.refusal or "")
    if kind is None:
        return StoreUnavailable(outcome.reason or "the home refuses")
    return kind() if kind is errors.TooManyIDs else kind(discovery_id)
