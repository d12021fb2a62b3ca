"""Writes that requests of several kinds make, and what they check first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.back_off import BackOff
from rqdisco.backends.etcd.batch_queue import MAX_BYTES
from rqdisco.backends.etcd.decisions import WriteStamp
from rqdisco.backends.etcd.etcd_record import EtcdRecord, encode, with_write
from rqdisco.backends.etcd.grants import GrantWriter
from rqdisco.backends.etcd.leases import SharedLeases
from rqdisco.backends.etcd.record_store import Applied, Conflict, RecordChange, RecordStore, Snapshot
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.backends.etcd.watch_hub import WatchHub
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import NoSuchID, Ownerless, TooManyIDs, TooManyNodes
from rqdisco.core.records import Node, Record

# So many nodes fit into MAX_BYTES, whatever their texts.
_FITTING_NODES = 100


class Observer(Protocol):
    """A part of the daemon that learns of decisions made here."""

    def claimed(self, discovery_id: str) -> None:
        """A claim was won, and awaits its leader's first report."""

    def reported(self, before: Record, after: Record) -> None:
        """A leader reported itself, whether or not that changed anything."""


class EtcdParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that a directory is built from.

    `machine` names the machine of the daemon in records. `retry_windows` are the leases of the
    windows of registrations, None if grants are not repeated; `claim_windows` those of claims.
    `unused` are the leases of IDs that never had a node, None if these do not expire. `count`
    returns the number of IDs when they were last counted, None before. `jitter` returns a factor
    around 1.
    """

    store: RecordStore
    state: StoreState
    grants: GrantWriter
    retry_windows: SharedLeases | None
    claim_windows: SharedLeases
    unused: SharedLeases | None
    watches: WatchHub
    environment: Environment
    clock: IReactorTime
    jitter: Callable[[], float]
    limits: Limits
    machine: str
    count: Callable[[], int | None]
    observer: Observer


class RecordWriter:
    """Stamps, checks and makes the writes of requests."""

    def __init__(self, parts: EtcdParts) -> None:
        self._parts = parts

    def stamp(self) -> WriteStamp:
        """Return the nonce and the time of a new write."""
        environment = self._parts.environment
        return WriteStamp(environment.random(8).hex(), environment.wall_us() // 1000)

    def back_off(self) -> BackOff:
        """Return the pauses of one request."""
        return BackOff(self._parts.clock, self._parts.jitter)

    def check_room(self) -> None:
        """Raise TooManyIDs if there are about as many as allowed."""
        most, count = self._parts.limits.max_ids, self._parts.count()
        if most is not None and count is not None and count >= most:
            raise TooManyIDs

    def check_grant(self, record: Record) -> None:
        """Raise Ownerless where nothing is granted under an ID any more (R7), Undecided where
        nothing is granted now.
        """
        self._parts.state.check_grants()
        if record.ownerless or record.owner != self._parts.state.meta.store_id:
            raise Ownerless(record.id)

    def new_named(self, discovery_id: str) -> EtcdRecord:
        """Return a record for an ID that no daemon created. Raises NoSuchID, TooManyIDs,
        Undecided.
        """
        if not self._parts.limits.create_named:
            raise NoSuchID(discovery_id)
        self.check_room()
        return decisions.new_record(discovery_id, self._parts.state.meta, self._parts.environment.wall_us())

    async def list_node(self, snapshot: Snapshot, after: Record, node: Node, stamp: WriteStamp) -> Applied | Conflict:
        """Write a record in which a node registered or reported itself."""
        assert isinstance(after, EtcdRecord)
        check_size(snapshot.record, after)
        return await self._parts.store.commit(RecordChange(
            snapshot=snapshot,
            after=with_write(after, stamp.nonce, addr=node.addr, version=stamp.version(after)),
            nonce=stamp.nonce,
            was_applied=lambda found: found.node_nonces.get(node.addr) == stamp.nonce,
        ))  # fmt: skip

    async def take_out(self, snapshot: Snapshot, record: EtcdRecord, after: Record) -> Applied | Conflict:
        """Write a record without a node, or without its leader."""
        assert isinstance(after, EtcdRecord)
        stamp = self.stamp()
        closes = after.grant is None and record.grant is not None
        return await self._parts.store.commit(RecordChange(
            snapshot=snapshot,
            after=with_write(after, stamp.nonce, version=stamp.version(record)),
            nonce=stamp.nonce,
            was_applied=lambda found: found.last_nonce == stamp.nonce,
            more=self._parts.store.without_window(snapshot.id) if closes else (),
        ))  # fmt: skip


def check_size(before: EtcdRecord | None, after: EtcdRecord) -> None:
    """Raise TooManyNodes if a record becomes too large: each change writes all of it, and etcd
    refuses values of some MiB in ways that leave the outcome in doubt.
    """
    count = len(after.nodes)
    if count > _FITTING_NODES and (before is None or count > len(before.nodes)) and len(encode(after)) > MAX_BYTES:
        raise TooManyNodes(after.id)


def existing(snapshot: Snapshot) -> EtcdRecord:
    """Return the record. Raises NoSuchID."""
    if snapshot.record is None:
        raise NoSuchID(snapshot.id)
    return snapshot.record
