"""Read records from etcd, and write one by one transaction each (E1, E2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.etcd import etcd_record
from rqdisco.backends.etcd.batches import Batches
from rqdisco.backends.etcd.etcd_record import EtcdRecord
from rqdisco.backends.etcd.failures import EtcdFailure, LeaseNotFound, TooLarge, unavailable
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.messages import (
    Compare,
    KeyValue,
    Range,
    RangeResponse,
    Txn,
    TxnOperation,
    delete_op,
    put_op,
    range_op,
)
from rqdisco.backends.etcd.paging import RangeCursor
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import EtcdUnavailable, StoreUnavailable
from rqdisco.http_client.deadlines import DeferredDeadline, RequestDeadlines

# So long a request waits for etcd, which leaves time for an answer within 8 s (P4).
PATIENCE_SECONDS = 5.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of an ID in etcd at one moment.

    `revision` is that of the record's last change, 0 if it does not exist. `window` exists while
    the window of the grant that it names is open, `answer` while the answer to a grant may be on
    its way.

    `state` compares `v1/meta` as the daemon knew it when it read this, so a write that was decided
    on an older state fails, even if the daemon has learned of a newer one since. Without `state`
    the write is valid in the state that the daemon knows when it writes.
    """

    id: str
    record: EtcdRecord | None
    revision: int
    window: KeyValue | None = None
    answer: KeyValue | None = None
    state: Compare | None = None

    @property
    def is_window_open(self) -> bool:
        """Report whether the grant is repeated to its node (R5a, E4)."""
        record, window = self.record, self.window
        return record is not None and window is not None and window.value == record.grant_nonce.encode()


class RecordChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A write of one record, decided on a snapshot.

    `nonce` names it; `was_applied` reports whether a record that carries the nonce shows that it was
    applied as it was decided. `compare` are further conditions, `more` further operations. With
    `lease` the record expires.
    """

    snapshot: Snapshot
    after: EtcdRecord
    nonce: str
    was_applied: Callable[[EtcdRecord], bool]
    compare: tuple[Compare, ...] = ()
    more: tuple[TxnOperation, ...] = ()
    lease: int = 0


class Applied(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record after a write that was applied, and the revision of its last change."""

    record: EtcdRecord
    revision: int


class Conflict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A write that was not applied, since the record had changed, or a lease has expired."""

    current: Snapshot
    is_lease_lost: bool = False


class RecordStore:
    """The records in etcd. All methods raise StoreUnavailable."""

    def __init__(self, keys: EtcdKeys, batches: Batches, state: StoreState, clock: IReactorTime, wall_ms: int) -> None:
        self.keys = keys
        self._batches = batches
        self._state = state
        self._clock = clock
        # Versions are milliseconds of the wall clock, so this is about the newest one in etcd.
        self._newest = max(1, wall_ms - 1)
        self._deadlines = RequestDeadlines(clock)

    @property
    def newest_version(self) -> int:
        """The highest version that this daemon has seen, or when it started if that is higher."""
        return self._newest

    async def read(self, *ranges: Range) -> Sequence[RangeResponse]:
        """Read ranges at one moment."""
        try:
            return await self._batches.read(*ranges)
        except EtcdFailure as failure:
            raise unavailable(failure) from None

    async def read_part(self, cursor: RangeCursor) -> RangeResponse:
        """Read the next part of a long range; a smaller one if the answer would be too large."""
        while True:
            try:
                (found,) = await self._batches.read(cursor.part())
            except TooLarge as failure:
                if not cursor.shrink():
                    raise unavailable(failure) from None
            except EtcdFailure as failure:
                raise unavailable(failure) from None
            else:
                cursor.advance(found)
                return found

    async def record(self, discovery_id: str) -> EtcdRecord | None:
        """Return the record of an ID, None if there is none."""
        (found,) = await self.read(Range(key=self.keys.id(discovery_id)))
        return self.decoded(found.kvs[0]) if found.kvs else None

    async def snapshot(self, discovery_id: str) -> Snapshot:
        """Return what a decision about an ID depends on."""
        return self._snapshot(discovery_id, await self.read(*self._ranges(discovery_id)))

    async def commit(self, change: RecordChange, *, is_patient: bool = False) -> Applied | Conflict:
        """Write a change. If `is_patient`, return only when the outcome is known (E2), and raise
        only if the change was not applied and never will be.
        """
        keys, discovery_id = self.keys, change.snapshot.id
        value = etcd_record.encode(change.after)
        index: tuple[TxnOperation, ...] = ()
        if not change.snapshot.revision:
            index = tuple(put_op(key, b"") for key in keys.index(discovery_id))
        key = keys.id(discovery_id)
        txn = Txn(
            compare=(
                Compare(key=key, mod_revision=change.snapshot.revision),
                change.snapshot.state or self._state.compare(),
                *change.compare,
            ),
            success=(put_op(key, value, change.lease), *change.more, *index),
            failure=tuple(map(range_op, (*self._ranges(discovery_id), Range(key=keys.meta)))),
        )
        try:
            writing = self._batches.write(key, txn, len(value))
            if not is_patient:
                self.limit(writing)
            response = await writing
        except LeaseNotFound:
            # Holds for all copies, so this can be decided again (E2).
            return Conflict(current=change.snapshot, is_lease_lost=True)
        except EtcdFailure as failure:
            raise unavailable(failure) from None
        if response.succeeded:
            self._newest = max(self._newest, change.after.version)
            return Applied(record=change.after, revision=response.header.revision)
        found = [each.response_range or RangeResponse() for each in response.responses]
        self._state.learn(found[-1].kvs[0] if found[-1].kvs else None)
        current = self._snapshot(discovery_id, found[:-1])
        record = current.record
        if record is not None and etcd_record.shows_write(record, change.nonce) and change.was_applied(record):
            return Applied(record=record, revision=current.revision)
        return Conflict(current=current)

    def decoded(self, found: KeyValue) -> EtcdRecord:
        """Decode a record. One from before the store was restored never grants (E8, R7)."""
        try:
            record = etcd_record.decode(found.value)
            if record.id != self.keys.id_of(found.key):
                raise Malformed("it is that of another ID")
        except Malformed as error:
            raise EtcdUnavailable(f"the record at {found.key.decode(errors='replace')} is damaged: {error}") from None
        self._newest = max(self._newest, record.version)
        return replace(record, ownerless=True) if record.epoch < self._state.meta.epoch else record

    def without_window(self, discovery_id: str) -> tuple[TxnOperation, ...]:
        """Return the operations that delete the keys of a grant: its window and its answer."""
        return delete_op(self.keys.window(discovery_id)), delete_op(self.keys.answer(discovery_id))

    def _ranges(self, discovery_id: str) -> tuple[Range, ...]:
        keys = self.keys
        return (
            Range(key=keys.id(discovery_id)),
            Range(key=keys.window(discovery_id)),
            Range(key=keys.answer(discovery_id)),
        )

    def _snapshot(self, discovery_id: str, found: Sequence[RangeResponse]) -> Snapshot:
        record, window, answer = (each.kvs[0] if each.kvs else None for each in found)
        return Snapshot(
            id=discovery_id,
            record=None if record is None else self.decoded(record),
            revision=0 if record is None else record.mod_revision,
            window=window,
            answer=answer,
            state=self._state.compare(),
        )

    def limit(self, waiting: Deferred[Any]) -> None:
        """Fail what a request waits for, unless it comes within PATIENCE_SECONDS."""
        self._deadlines.add(self._clock.seconds() + PATIENCE_SECONDS, DeferredDeadline(waiting, self._why_late))

    def close(self) -> None:
        """Stop the timer. Nobody waits any more."""
        self._deadlines.close()

    def _why_late(self) -> StoreUnavailable:
        return EtcdUnavailable(self._batches.reason or f"etcd did not answer in {PATIENCE_SECONDS:g} s")
