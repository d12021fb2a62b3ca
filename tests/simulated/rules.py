"""Each rule with a switch that turns it off, to prove that the simulator would notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from rqdisco.backends.gossip.transport.messages import Call

from rqdisco.backends.gossip.assembly import GossipBackend, GossipContext
from rqdisco.backends.gossip.transport.links import Misdirected
from rqdisco.core import records, transitions
from rqdisco.core.directory import Removal
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import view_of


def without(rule: str) -> Callable[..., GossipBackend]:
    """Return a factory of daemons that do not keep a rule."""

    def make(context: GossipContext) -> GossipBackend:
        if rule == "R5a":
            context = replace(context, limits=replace(context.limits, retry_window_ms=0))
        backend = GossipBackend(context)
        if rule != "R5a":
            _SWITCHES[rule](backend)
        return backend

    return make


def _everybody_decides(backend: Any) -> None:
    own = backend.peers.members.own.incarnation
    backend.directory._owner = lambda record: own
    backend.peers.is_lost = lambda owner: False


def _answer_for_others(backend: Any) -> None:
    """Whichever daemon is at a URL is taken for the intended one, and handles its messages."""
    answers, own = backend.request_handler, backend.peers.members.own.incarnation
    answers._forwarded._current_owner = lambda owner: own
    for verb in ("call", "hints"):
        answers._verbs[verb] = _meant_for_anyone(own, *answers._verbs[verb])
    add = backend.peers._add_peer

    def add_anyone(url: str, incarnation: str | None = None) -> None:
        add(url, incarnation)
        peer = backend.peers.peers.get(incarnation)
        if peer is not None:
            peer._exchange_hellos = _greeting_anyone(peer, peer._exchange_hellos)

    backend.peers._add_peer = add_anyone


def _meant_for_anyone(own: str, kind: Any, answer: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    async def answer_anyone(speaker: Any, message: Any) -> Any:
        return await answer(speaker, replace(message, owner=own))

    return kind, answer_anyone


def _greeting_anyone(peer: Any, greet: Callable[[], Any]) -> Callable[[], Any]:
    async def greet_anyone() -> None:
        try:
            await greet()
        except Misdirected:
            peer._must_greet = False
            peer._mark_up()

    return greet_anyone


def _never_too_late(backend: Any) -> None:
    _, answer = backend.request_handler._verbs["call"]

    async def answer_late(speaker: Any, call: Call) -> Any:
        return await answer(speaker, replace(call, ms=1_000_000, until=None))

    backend.request_handler._verbs["call"] = Call, answer_late


def _believe_twice(backend: Any) -> None:
    backend.is_credulous = True


def _others_grant(backend: Any) -> None:
    on_behalf = backend.directory._on_behalf

    async def answer(discovery_id: str, node: Node, host: str | None, why: str, *sent: Any) -> RegistrationOutcome:
        copy = backend.store.settled(discovery_id)
        if copy is not None and all(each.addr == node.addr for each in records.without_pending_grant(copy).nodes):
            return RegistrationOutcome(record=copy, listed=(node,), bootstrap="granted")
        answered: RegistrationOutcome = await on_behalf(discovery_id, node, host, why, *sent)
        return answered

    backend.directory._on_behalf = answer


def _count_a_refusal_as_unreachable(backend: Any) -> None:
    directory = backend.directory
    register = directory.register

    async def ignore_refusals(discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        try:
            answered: RegistrationOutcome = await register(discovery_id, node, host)
        except Undecided as refusal:
            answered = await directory._on_behalf(discovery_id, node, host, refusal.reason)
        return answered

    directory.register = ignore_refusals


def _nobody_keeps_hints(backend: Any) -> None:
    async def keep(owner: str, discovery_id: str, node: Node, host: str | None) -> int:
        return 0

    backend.hint_store.store = keep
    backend.hint_store.mark_answered = backend.hint_store.withdraw = lambda number: None


def _no_barrier(backend: Any) -> None:
    async def barrier(record: Record) -> None:
        pass

    backend.peers.barrier = barrier


def _no_acknowledgement(backend: Any) -> None:
    async def replicated(version: int, *, is_grant: bool) -> bool:
        return True

    backend.peers.replicated = replicated
    backend.peers.change_pusher.push = lambda: None
    backend.peers.replication.on_own_changes.clear()


def _no_revoking(backend: Any) -> None:
    grants = backend.local.grants

    async def leave(pending: Any) -> None:
        grants.end(pending)

    grants._revoke = leave


def _ownerless_grant(backend: Any) -> None:
    take_over = backend.succession._take_over
    backend.succession._take_over = lambda incarnation, is_lost: take_over(incarnation, is_lost=False)
    backend.peers.is_lost = lambda owner: False


def _trust_the_disk(backend: Any) -> None:
    guard = backend.peers.guard

    def check(record: Record) -> None:
        if (objection := guard.objection) is not None:
            raise Undecided(objection)

    guard.check = check


def _leave_out_own_hints(backend: Any) -> None:
    """Answers from before a daemon was ready are added once an exchange with a peer ended, or
    later.
    """
    peers = backend.peers
    peers.check = peers.guard.check
    backend.local.view = lambda record: view_of(record, is_owner=record.owner == peers._own)


def _show_claims(backend: Any) -> None:
    """A claim is answered again to its claimant, and shown to all others meanwhile."""
    backend.local.view = lambda record: view_of(replace(record, unreported=None), is_owner=True)


def _claim_once(backend: Any) -> None:
    """A claim is shown to nobody, and its claimant does not win again."""
    local = backend.local
    claim = local._claim

    def claim_once(record: Record, put: Put, host: str | None) -> ClaimOutcome:
        if record.unreported is not None:
            return ClaimOutcome(record=record, won=False)
        outcome: ClaimOutcome = claim(record, put, host)
        return outcome

    local._claim = claim_once


def _show_the_pending(backend: Any) -> None:
    """Copies show nodes whose grant may not have been answered."""
    backend.local.view = lambda record: view_of(record, is_owner=True)


def _no_fence(backend: Any) -> None:
    backend.request_handler._sessions.record_activity = lambda session: None
    backend.peers.fence = lambda why: None


def _remove_what_is_there(backend: Any) -> None:
    local = backend.local

    async def remove(discovery_id: str, addr: str) -> tuple[Record, bool]:
        record = await local._records.after_pending_grant(discovery_id)
        after = transitions.remove(record, addr)
        return await local._records.save(record, after), after is not record

    local.remove_from = remove


def _remove_anywhere(backend: Any) -> None:
    at_owner = backend.directory.remove

    async def remove(discovery_id: str, addr: str) -> Removal:
        try:
            removal: Removal = await at_owner(discovery_id, addr)
        except StoreUnavailable:
            copy = backend.store.settled(discovery_id)
            if copy is None:
                raise
            after = transitions.remove(copy, addr)
            return Removal(record=view_of(after, is_owner=False), removed=after is not copy)
        return removal

    backend.directory.remove = remove


def _forget_the_emptied(backend: Any) -> None:
    _cover(backend, lambda record: not record.nodes)


def _forget_attempted(backend: Any) -> None:
    _cover(backend, lambda record: records.is_unused(replace(record, attempted=False)))


def _learn_no_watermarks(backend: Any) -> None:
    async def learn_watermarks(peer: Any) -> None:
        pass

    backend.peers.exchange._learn_watermarks = learn_watermarks


def _take_expired(backend: Any) -> None:
    backend.peers.replication._watermarks = ExpiryWatermarks()


def _cover(backend: Any, is_unused: Callable[[Record], bool]) -> None:
    marks = backend.watermarks
    marks.covers = lambda record: record.version <= marks.of(record.owner) and is_unused(record)


_SWITCHES: dict[str, Callable[[Any], None]] = {
    "R1": _everybody_decides,
    "R2 incarnation": _answer_for_others,
    "R2 late": _never_too_late,
    "R2 once": _believe_twice,
    "R3": _others_grant,
    "R4": _nobody_keeps_hints,
    "R4 refusal": _count_a_refusal_as_unreachable,
    "R5b": _no_barrier,
    "R5c hidden": _show_claims,
    "R5c again": _claim_once,
    "R6 shown": _show_the_pending,
    "R6 acknowledgement": _no_acknowledgement,
    "R6 revoking": _no_revoking,
    "R7": _ownerless_grant,
    "R8 restart": _trust_the_disk,
    "R8 own hints": _leave_out_own_hints,
    "R8 fence": _no_fence,
    "R9 arrival": _remove_what_is_there,
    "R9 owner": _remove_anywhere,
    "P7 emptied": _forget_the_emptied,
    "P7 tried": _forget_attempted,
    "P7 published": _learn_no_watermarks,
    "P7 taken": _take_expired,
}
RULES = (*_SWITCHES, "R5a")
