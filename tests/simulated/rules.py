"""Each rule with a switch that turns it off, to see that the simulator would notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from rqdisco import records
from rqdisco.peers.assembly import Peered
from rqdisco.records import Node, Record, Registration


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


def _others_grant(peered: Any) -> None:
    in_its_stead = peered.directory._in_its_stead

    async def answer(discovery_id: str, node: Node, why: str) -> Registration:
        copy = peered.store.settled(discovery_id)
        if copy is not None and all(each.addr == node.addr for each in records.heard(copy)):
            return Registration(record=copy, listed=(node,), alone="granted")
        answered: Registration = await in_its_stead(discovery_id, node, why)
        return answered

    peered.directory._in_its_stead = answer


def _nobody_keeps_hints(peered: Any) -> None:
    async def keep(home: str, discovery_id: str, node: Node) -> None:
        pass

    peered.book.keep = keep


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
    local = peered.local

    async def leave(pending: Any) -> None:
        local._end(pending)

    local._revoke = leave


def _orphans_grant(peered: Any) -> None:
    take_over = peered.successions._take_over
    peered.successions._take_over = lambda incarnation, is_lost: take_over(incarnation, is_lost=False)
    peered.peers.is_lost = lambda home: False


def _trust_the_disk(peered: Any) -> None:
    standing = peered.peers.standing
    standing.check = lambda record: None
    standing.heard = lambda incarnation: None


def _no_fence(peered: Any) -> None:
    peered.answers._sessions.note = lambda session: None
    peered.peers.fence = lambda why: None


_SWITCHES: dict[str, Callable[[Any], None]] = {
    "R1": _everybody_decides,
    "R3": _others_grant,
    "R4": _nobody_keeps_hints,
    "R5b": _no_barrier,
    "R6 acknowledgement": _no_acknowledgement,
    "R6 revoking": _no_revoking,
    "R7": _orphans_grant,
    "R8 restart": _trust_the_disk,
    "R8 fence": _no_fence,
}
RULES = (*_SWITCHES, "R5a")
