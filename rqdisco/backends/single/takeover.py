"""Takeover of records from other daemons by import."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.backends.limits import Limits
from rqdisco.backends.single.local_records import LocalRecords
from rqdisco.core import decisions
from rqdisco.core.exports import TransferredRecord, to_record
from rqdisco.core.records import Moment


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
        record = record if owner == own else self._records.taken_over(record)
        record = decisions.with_claim_window(record, self._now())
        if known is None:
            self._records.check_room(self._limits.max_ids)
            await self._records.save(None, record, version)
            return True
        after = decisions.import_into(known, record, as_own=as_own, is_migration=during is not None)
        if after is not known:
            after = decisions.with_claim_window(after, self._now())
        await self._records.save(known, after, version)
        return after is not known
