"""Import records of other daemons."""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.decisions import WriteStamp
from rqdisco.backends.etcd.etcd_record import EtcdRecord, with_grant, with_write
from rqdisco.backends.etcd.messages import TxnOperation, put_op
from rqdisco.backends.etcd.record_store import Applied, RecordChange, Snapshot
from rqdisco.backends.etcd.record_writer import EtcdParts, RecordWriter, check_size
from rqdisco.core.exports import TransferredRecord


class Imports:
    """Imports; see `core.directory.Directory.adopt`."""

    def __init__(self, parts: EtcdParts, writer: RecordWriter) -> None:
        self._parts = parts
        self._writer = writer

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None) -> bool:
        back_off = self._writer.back_off()
        snapshot = await self._parts.store.snapshot(transferred.id)
        while True:
            self._parts.state.check_changes(during)
            known, stamp = snapshot.record, self._writer.stamp()
            version = stamp.wall_ms if known is None else stamp.version(known)
            after = decisions.import_record(
                known,
                transferred,
                self._parts.state.meta,
                self._parts.limits,
                version,
                as_own=as_own,
                is_migration=during is not None,
            )
            if after is known:
                return False
            if known is None:
                self._writer.check_room()
            committed = await self._parts.store.commit(await self._change(snapshot, after, stamp))
            if isinstance(committed, Applied):
                return True
            snapshot = committed.current
            await back_off.after_conflict()

    async def _change(self, snapshot: Snapshot, after: EtcdRecord, stamp: WriteStamp) -> RecordChange:
        after, more = decisions.with_claimed_grant(after), list[TxnOperation]()
        if after.grant is not None:
            after = with_grant(after, stamp.nonce, stamp.wall_ms)
            if after.unreported is not None:
                # When, and where, the winner was answered is not known here (R5c).
                lease = await self._parts.claim_windows.get()
                more.append(put_op(self._parts.store.keys.window(after.id), stamp.nonce.encode(), lease.id))
        after = replace(after, node_nonces={node.addr: stamp.nonce for node in after.nodes})
        check_size(snapshot.record, after)
        return RecordChange(
            snapshot=snapshot,
            after=with_write(after, stamp.nonce, version=after.version),
            nonce=stamp.nonce,
            was_applied=lambda found: found.last_nonce == stamp.nonce,
            more=tuple(more),
        )
