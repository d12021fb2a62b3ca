"""Takeover of records from other daemons by import."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from rqdisco.backends.limits import Limits
from rqdisco.backends.single.local_records import LocalRecords
from rqdisco.core.errors import ImportConflict
from rqdisco.core.exports import TransferredRecord, adopted, is_equivalent, may_adopt, to_record
from rqdisco.core.records import Grant, Moment, Record


class Takeover:
    """Takes records of other daemons into `local_records`."""

    def __init__(self, local_records: LocalRecords, limits: Limits, now: Callable[[], Moment]) -> None:
        self._records = local_records
        self._limits = limits
        self._now = now

    async def import_record(self, transferred: TransferredRecord, *, as_own: bool, during: str | None) -> bool:
        """Import a record; see `Directory.adopt`."""
        known = await self._records.after_pending_grant(transferred.id, during)
        own, version = self._records.owner, self._records.versions.next()
        owner = own if as_own or transferred.owner is None else transferred.owner
        record = to_record(transferred, owner, version=version, max_nodes=self._limits.max_nodes)
        record = self._reset_claim_window(record if owner == own else self._records.taken_over(record))
        if known is None:
            self._records.check_room(self._limits.max_ids)
            await self._records.save(None, record, version)
            return True
        if not is_equivalent(known, record):
            raise ImportConflict(transferred.id)
        after = known
        if as_own and may_adopt(known, record, is_migration=during is not None):
            after = self._reset_claim_window(adopted(known, record))
        await self._records.save(known, after, version)
        return after is not known

    def _reset_claim_window(self, record: Record) -> Record:
        """Restart the window in which only the winner of an unreported claim may repeat it: when,
        and for an import where, the winner was answered is not known here (R5c).
        """
        if record.ownerless or record.unreported is None or record.leader is None:
            return record
        now = self._now()
        grant = record.grant or Grant(addr=record.leader.addr, boot=now.boot, at=now.ms)
        return replace(record, grant=replace(grant, boot=now.boot, at=now.ms))
