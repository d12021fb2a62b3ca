"""Claim the leader key, report a leader, and clear the key."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace
from twisted.logger import Logger

from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.decisions import WriteStamp
from rqdisco.backends.etcd.etcd_record import EtcdRecord, with_grant, with_write
from rqdisco.backends.etcd.grants import GrantAttempt
from rqdisco.backends.etcd.messages import Compare
from rqdisco.backends.etcd.record_store import Applied, Snapshot
from rqdisco.backends.etcd.record_writer import EtcdParts, RecordWriter
from rqdisco.backends.etcd.registrations import ON_ITS_WAY, REMOVAL_POLL_SECONDS
from rqdisco.core import host_binding, transitions
from rqdisco.core.directory import Clearing
from rqdisco.core.errors import UnknownCreatedID
from rqdisco.core.ids import is_created_id
from rqdisco.core.records import ClaimOutcome, Put, Record

# A claim repeated so often is logged: its rqlited drops the answer inside its join loop.
_MANY_CLAIMS = 3


class LeaderKeys:
    """The leader keys of consul-kv; see `core.directory.Directory` for its methods."""

    _log = Logger()

    def __init__(self, parts: EtcdParts, writer: RecordWriter) -> None:
        self._parts = parts
        self._writer = writer

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        host, back_off = host_binding.name_host(host, self._parts.machine), self._writer.back_off()
        snapshot = await self._parts.store.snapshot(discovery_id)
        while True:
            self._parts.state.check_changes()
            if snapshot.record is None and is_created_id(discovery_id):
                raise UnknownCreatedID(discovery_id)
            record = self._writer.new_named(discovery_id) if snapshot.record is None else snapshot.record
            stamp = self._writer.stamp()
            outcome = decisions.claim(snapshot, record, put, host, self._parts.limits, stamp)
            if not outcome.won:
                return outcome
            self._writer.check_grant(record)
            committed = await self._parts.grants.commit(self._claim(snapshot, record, outcome, put, stamp))
            if isinstance(committed, Applied):
                self._note_claim(committed.record)
                return replace(outcome, record=committed.record)
            snapshot = committed.current
            await back_off.after_conflict()

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        host, back_off = host_binding.name_host(host, self._parts.machine), self._writer.back_off()
        snapshot = await self._parts.store.snapshot(discovery_id)
        while True:
            known = snapshot.record
            self._parts.state.check_changes()
            if index is not None and not (_is_at(known, index) and transitions.may_see_leader(known, put)):
                return False
            record = self._writer.new_named(discovery_id) if known is None else known
            if known is None and is_created_id(discovery_id):
                # The cluster exists; but the store that created the ID may have granted others (R7).
                record = replace(record, ownerless=True)
            stamp = self._writer.stamp()
            after = decisions.report(record, put, host, self._parts.limits, stamp)
            if after is None:
                return False
            if after is record:
                self._parts.observer.reported(record, record)
                return True
            committed = await self._writer.list_node(snapshot, after, put.node, stamp)
            if isinstance(committed, Applied):
                self._parts.observer.reported(record, committed.record)
                return True
            snapshot = committed.current
            await back_off.after_conflict()

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        back_off, put_at, is_tried = self._writer.back_off(), None, False
        removed: Literal["leader", "claim"] = "leader"
        snapshot = await self._parts.store.snapshot(discovery_id)
        while True:
            record = snapshot.record
            self._parts.state.check_changes()
            if record is None or record.leader is None:
                return Clearing(done=True, removed=removed if is_tried else None)
            if put_at is not None and record.leader.modified != put_at:
                # E5: this key was put after the request arrived.
                return Clearing(done=True)
            if index is not None and not _is_at(record, index):
                return Clearing(done=False)
            put_at, removed = record.leader.modified, "leader" if record.unreported is None else "claim"
            if record.unreported is not None and self._parts.grants.may_be_on_its_way(snapshot):
                await back_off.wait(REMOVAL_POLL_SECONDS, ON_ITS_WAY)
                snapshot = await self._parts.store.snapshot(discovery_id)
                continue
            committed = await self._writer.take_out(snapshot, record, transitions.clear_leader(record))
            if isinstance(committed, Applied):
                return Clearing(done=True, removed=removed)
            snapshot, is_tried = committed.current, True
            await back_off.after_conflict()

    def _claim(
        self, snapshot: Snapshot, record: EtcdRecord, outcome: ClaimOutcome, put: Put, stamp: WriteStamp
    ) -> GrantAttempt:
        after, window = outcome.record, snapshot.window
        assert isinstance(after, EtcdRecord)
        # R5c: the window must be as open, or as closed, as it was when this was decided.
        revision = 0 if window is None else window.mod_revision
        after = with_grant(after, stamp.nonce, stamp.wall_ms)
        return GrantAttempt(
            snapshot=snapshot,
            before=record,
            after=with_write(after, stamp.nonce, addr=put.node.addr, version=stamp.version(after)),
            nonce=stamp.nonce,
            grants_anew=not outcome.again,
            window=self._parts.claim_windows,
            compare=(Compare(key=self._parts.store.keys.window(record.id), mod_revision=revision),),
        )

    def _note_claim(self, record: EtcdRecord) -> None:
        """Track a claim, and log, once, a node that repeats its claim many times."""
        if record.unreported is None or record.leader is None:
            return
        self._parts.observer.claimed(record.id)
        if record.unreported.times == _MANY_CLAIMS:
            self._log.warn(
                "{addr} won the claim {times} times and never reported itself: restart that rqlited",
                addr=record.leader.addr,
                times=record.unreported.times,
                discovery_id=record.id,
            )


def _is_at(record: Record | None, index: int) -> bool:
    return record is not None and record.leader is not None and record.leader.modified == index
