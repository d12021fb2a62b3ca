"""Each rule with a switch that turns it off, to see that the simulator would notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.assembly import Peered
from rqdisco.backends.gossip.transport.links import Misdirected
from rqdisco.backends.gossip.transport.messages import Call
from rqdisco.core import records, transitions
from rqdisco.core.directory import Removal
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.expiry import Marks
from rqdisco.core.records import Claim, Node, Put, Record, Registration
from rqdisco.core.views import view_of


def without(rule: str) -> Callable[..., Peered]:
    """What makes daemons that do not keep a rule."""

    def make(*arguments: Any, **options: Any) -> Peered:
        if rule == "R5a":
            options["limits"] = replace(options["limits"], window_ms=0)
        peered = Peered(*arguments, **options)
        if rule != "R5a":
            _SWITCHES[rule](peered)
        return peered

    return make


def _everybody_decides(peered: Any) -> None:
    own = peered.peers.members.own.incarnation
    peered.directory._home = lambda record: own
    peered.peers.is_lost = lambda home: False


def _answer_for_others(peered: Any) -> None:
    """Whoever is at the URL of a daemon is taken for it, and does what was meant for that."""
    answers, own = peered.answers, peered.peers.members.own.incarnation
    answers._caller._home_now = lambda home: own
    for verb in ("call", "hints"):
        answers._verbs[verb] = _meant_for_anyone(own, *answers._verbs[verb])
    add = peered.peers._add

    def add_anyone(url: str, incarnation: str | None = None) -> None:
        add(url, incarnation)
        peer = peered.peers.peers.get(incarnation)
        if peer is not None:
            peer._greet = _greeting_anyone(peer, peer._greet)

    peered.peers._add = add_anyone


def _meant_for_anyone(own: str, kind: Any, answer: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    async def answer_anyone(speaker: Any, message: Any) -> Any:
        return await answer(speaker, replace(message, home=own))

    return kind, answer_anyone


def _greeting_anyone(peer: Any, greet: Callable[[], Any]) -> Callable[[], Any]:
    async def greet_anyone() -> None:
        try:
            await greet()
        except Misdirected:
            peer._is_other = False
            peer._answers()

    return greet_anyone


def _never_too_late(peered: Any) -> None:
    _, answer = peered.answers._verbs["call"]

    async def answer_late(speaker: Any, call: Call) -> Any:
        return await answer(speaker, replace(call, ms=1_000_000, until=None))

    peered.answers._verbs["call"] = Call, answer_late


def _believe_twice(peered: Any) -> None:
    peered.is_credulous = True


def _others_grant(peered: Any) -> None:
    on_behalf = peered.directory._on_behalf

    async def answer(discovery_id: str, node: Node, host: str | None, why: str, *told: Any) -> Registration:
        copy = peered.store.settled(discovery_id)
        if copy is not None and all(each.addr == node.addr for each in records.answered(copy).nodes):
            return Registration(record=copy, listed=(node,), alone="granted")
        answered: Registration = await on_behalf(discovery_id, node, host, why, *told)
        return answered

    peered.directory._on_behalf = answer


def _take_a_refusal_for_silence(peered: Any) -> None:
    directory = peered.directory
    register = directory.register

    async def hear_no_refusal(discovery_id: str, node: Node, host: str | None) -> Registration:
        try:
            answered: Registration = await register(discovery_id, node, host)
        except Undecided as refusal:
            answered = await directory._on_behalf(discovery_id, node, host, refusal.reason)
        return answered

    directory.register = hear_no_refusal


def _nobody_keeps_hints(peered: Any) -> None:
    async def keep(home: str, discovery_id: str, node: Node, host: str | None) -> int:
        return 0

    peered.book.keep = keep
    peered.book.promise = peered.book.withdraw = lambda number: None


def _no_barrier(peered: Any) -> None:
    async def barrier(record: Record) -> None:
        pass

    peered.peers.barrier = barrier


def _no_acknowledgement(peered: Any) -> None:
    async def witnessed(version: int, *, is_grant: bool) -> bool:
        return True

    peered.peers.witnessed = witnessed
    peered.peers.witnesses.push = peered.peers.replication.on_own = lambda: None


def _no_revoking(peered: Any) -> None:
    grants = peered.local._grants

    async def leave(pending: Any) -> None:
        grants.end(pending)

    grants._revoke = leave


def _orphans_grant(peered: Any) -> None:
    take_over = peered.successions._take_over
    peered.successions._take_over = lambda incarnation, is_lost: take_over(incarnation, is_lost=False)
    peered.peers.is_lost = lambda home: False


def _trust_the_disk(peered: Any) -> None:
    standing = peered.peers.standing

    def check(record: Record) -> None:
        if (objection := standing.objection) is not None:
            raise Undecided(objection)

    standing.check = check


def _leave_out_own_hints(peered: Any) -> None:
    """What was answered before a daemon was ready is added once an exchange with a peer came to its end, or later."""
    peers = peered.peers
    peers.check = peers.standing.check
    peered.local.view = lambda record: view_of(record, is_owner=record.home == peers._own)


def _show_claims(peered: Any) -> None:
    """A claim is answered again to its owner, and shown to all others meanwhile."""
    peered.local.view = lambda record: view_of(replace(record, unreported=None), is_owner=True)


def _claim_once(peered: Any) -> None:
    """A claim is shown to nobody, and its owner is not told again."""
    local = peered.local
    claim = local._claim

    def claim_once(record: Record, put: Put, host: str | None) -> Claim:
        if record.unreported is not None:
            return Claim(record=record, won=False)
        outcome: Claim = claim(record, put, host)
        return outcome

    local._claim = claim_once


def _show_the_pending(peered: Any) -> None:
    """Copies show whose grant may not have been answered."""
    peered.local.view = lambda record: view_of(record, is_owner=True)


def _no_fence(peered: Any) -> None:
    peered.answers._sessions.note = lambda session: None
    peered.peers.fence = lambda why: None


def _remove_what_is_there(peered: Any) -> None:
    local = peered.local

    async def remove(discovery_id: str, addr: str) -> tuple[Record, bool]:
        record = await local._decidable(discovery_id)
        after = transitions.remove(record, addr)
        return await local._durably(record, after), after is not record

    local.remove_from = remove


def _remove_anywhere(peered: Any) -> None:
    at_home = peered.directory.remove

    async def remove(discovery_id: str, addr: str) -> Removal:
        try:
            removal: Removal = await at_home(discovery_id, addr)
        except StoreUnavailable:
            copy = peered.store.settled(discovery_id)
            if copy is None:
                raise
            after = transitions.remove(copy, addr)
            return Removal(record=view_of(after, is_owner=False), removed=after is not copy)
        return removal

    peered.directory.remove = remove


def _forget_the_emptied(peered: Any) -> None:
    _cover(peered, lambda record: not record.nodes)


def _forget_the_tried(peered: Any) -> None:
    _cover(peered, lambda record: records.is_unused(replace(record, tried=False)))


def _learn_no_marks(peered: Any) -> None:
    async def take_marks(peer: Any) -> None:
        pass

    peered.peers.exchange._take_marks = take_marks


def _take_what_is_gone(peered: Any) -> None:
    peered.peers.replication._marks = Marks()


def _cover(peered: Any, is_unused: Callable[[Record], bool]) -> None:
    marks = peered.marks
    marks.cover = lambda record: record.version <= marks.of(record.home) and is_unused(record)


_SWITCHES: dict[str, Callable[[Any], None]] = {
    "R1": _everybody_decides,
    "R2 incarnation": _answer_for_others,
    "R2 late": _never_too_late,
    "R2 once": _believe_twice,
    "R3": _others_grant,
    "R4": _nobody_keeps_hints,
    "R4 refusal": _take_a_refusal_for_silence,
    "R5b": _no_barrier,
    "R5c hidden": _show_claims,
    "R5c again": _claim_once,
    "R6 shown": _show_the_pending,
    "R6 acknowledgement": _no_acknowledgement,
    "R6 revoking": _no_revoking,
    "R7": _orphans_grant,
    "R8 restart": _trust_the_disk,
    "R8 own hints": _leave_out_own_hints,
    "R8 fence": _no_fence,
    "R9 arrival": _remove_what_is_there,
    "R9 home": _remove_anywhere,
    "P7 emptied": _forget_the_emptied,
    "P7 tried": _forget_the_tried,
    "P7 told": _learn_no_marks,
    "P7 taken": _take_what_is_gone,
}
RULES = (*_SWITCHES, "R5a")
