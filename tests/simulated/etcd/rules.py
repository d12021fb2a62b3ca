"""Each of the rules E1-E5 and E8 with a switch that turns it off, or a part of it, to prove that the
simulator would notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.etcd import etcd_record
from rqdisco.backends.etcd.failures import NotApplied, OutcomeUnknown
from rqdisco.backends.etcd.leases import Lease
from rqdisco.backends.etcd.messages import Compare, KeyValue
from rqdisco.core.directory import Removal
from rqdisco.core.records import Node, RegistrationOutcome
from tests.simulated.etcd.hosts import Switch


def without(rule: str) -> Switch:
    """Return what makes a backend one that does not keep a rule."""
    return _SWITCHES[rule]


def _decide_without_comparing(backend: Any) -> None:
    """A change is written whatever the record has become since it was read."""
    write = backend.batches.write

    def write_anyway(key: bytes, txn: Any, size: int) -> Any:
        compare = tuple(each for each in txn.compare if each.key == backend.keys.meta)
        return write(key, replace(txn, compare=compare), size)

    backend.batches.write = write_anyway


def _answer_from_a_read(backend: Any) -> None:
    """A grant is repeated as soon as it is read, without a transaction."""
    directory, store = backend.directory, backend.directory._store
    register = directory.register

    async def answer(discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        snapshot = await store.snapshot(discovery_id)
        record = snapshot.record
        grant = None if record is None or record.confirmed or not snapshot.is_window_open else record.grant
        if record is not None and grant is not None and grant.addr == node.addr:
            return RegistrationOutcome(record=record, listed=(node,), bootstrap="again")
        outcome: RegistrationOutcome = await register(discovery_id, node, host)
        return outcome

    directory.register = answer


def _take_unknown_for_not_applied(backend: Any) -> None:
    """A transaction without an answer is not sent again, and counts as one that was not applied."""
    batches = backend.batches
    send = batches._write

    async def send_once(txn: Any) -> Any:
        try:
            return await send(txn)
        except OutcomeUnknown as failure:
            raise NotApplied(str(failure)) from None

    batches._write = send_once


def _decide_again_in_doubt(backend: Any) -> None:
    """A repeated transaction does not recognize its own earlier copies."""
    commit = backend.directory._store.commit

    async def forget(change: Any, **more: Any) -> Any:
        return await commit(replace(change, was_applied=lambda found: False), **more)

    backend.directory._store.commit = forget


def _no_leases(backend: Any) -> None:
    """The keys of windows and answers are on no lease."""

    async def none() -> Lease:
        return Lease(0, backend.grants._clock.seconds())

    for leases in (backend.grants._answers, backend.directory._parts.retry_windows):
        leases.get = none


def _no_revoking(backend: Any) -> None:
    async def leave(*_: Any) -> None:
        pass

    backend.grants._revoke = leave


def _remove_at_once(backend: Any) -> None:
    """A removal does not wait for the answer to a grant."""
    backend.grants.may_be_on_its_way = lambda snapshot: False


def _answer_late(backend: Any) -> None:
    """A grant is answered however long etcd took for it."""
    backend.grants._objection = lambda answer, lease: (
        "its client was gone" if answer.called else backend.state.grant_objection
    )


def _window_of_the_daemon(backend: Any) -> None:
    """The window of a grant is open for 30 s by the daemon's clock."""
    directory, store = backend.directory, backend.directory._store
    registrations = directory._registrations
    read, prepare = store._snapshot, registrations._registration

    def judge_by_clock(discovery_id: str, found: Sequence[Any]) -> Any:
        snapshot = read(discovery_id, found)
        record = snapshot.record
        if record is None or record.grant is None:
            return snapshot
        age = directory._parts.environment.wall_us() // 1000 - record.grant.at
        window = KeyValue(key=store.keys.window(discovery_id), value=record.grant_nonce.encode())
        return replace(snapshot, window=window if age < 30_000 else None)

    def without_comparison(*args: Any) -> Any:
        return replace(prepare(*args), compare=tuple[Compare, ...]())

    store._snapshot, registrations._registration = judge_by_clock, without_comparison


def _remove_what_is_there(backend: Any) -> None:
    """A removal decides again about the address, until it is not listed."""
    directory = backend.directory
    remove = directory.remove

    async def remove_again(discovery_id: str, addr: str) -> Removal:
        while True:
            removal: Removal = await remove(discovery_id, addr)
            if all(node.addr != addr for node in removal.record.nodes):
                return removal

    directory.remove = remove_again


def _no_epoch(backend: Any) -> None:
    """Records from before the store was restored grant as others do."""
    backend.directory._store.decoded = lambda found: etcd_record.decode(found.value)


def _no_revisions(backend: Any) -> None:
    """The revisions of answers are not looked at."""
    backend.state._guard.check = lambda header, at_send: None


_SWITCHES: dict[str, Switch] = {
    "E1 compare": _decide_without_comparing,
    "E1 read": _answer_from_a_read,
    "E2 unknown": _take_unknown_for_not_applied,
    "E2 nonce": _decide_again_in_doubt,
    "E3 lease": _no_leases,
    "E3 revoking": _no_revoking,
    "E3 removal": _remove_at_once,
    "E3 late": _answer_late,
    "E4": _window_of_the_daemon,
    "E5": _remove_what_is_there,
    "E8 epoch": _no_epoch,
    "E8 revision": _no_revisions,
}
RULES = tuple(_SWITCHES)
