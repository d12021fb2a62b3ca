"""Read and change the records that this daemon decides about.

`LocalRecords` returns the newest record of an ID, which may not be on the disk yet, and writes a
changed one to the journal. `SingleDirectory` and `Takeover` decide what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from rqdisco.backends.single.freeze import Freeze
from rqdisco.backends.single.grants import Grants
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.versions import Versions
from rqdisco.core import host_binding, records
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import TooManyIDs
from rqdisco.core.records import Record
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal


class LocalRecords:
    """The records that the daemon `owner` decides about; `owner` also names its host in records."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        subscriptions: Subscriptions,
        owner: str,
        wall_us: Callable[[], int],
        metadata: Sequence[Metadata] = (),
    ) -> None:
        self._store = store
        self._journal = journal
        self.owner = owner
        self._wall_us = wall_us
        self.versions = Versions(store, wall_us)
        self.grants = Grants(store, journal, self.versions, subscriptions)
        self.freeze = Freeze(journal, self.grants, owner, metadata)

    async def after_pending_grant(self, discovery_id: str, during: str | None = None) -> Record | None:
        """Return the newest record once no grant of the ID is pending: decisions about an ID are
        made one at a time (R3).

        Raises as `newest`, StoreUnavailable, Frozen; `during` as for `Freeze.check`.
        """
        if discovery_id in self.grants.pending:
            await self.grants.finished(discovery_id)
        # The caller decides before its next await.
        self.freeze.check(during)
        return self.newest(discovery_id)

    def newest(self, discovery_id: str) -> Record | None:
        """Return the newest record as this daemon's own, None if there is none."""
        record = self._store.newest(discovery_id)
        if record is None:
            return None
        return self.normalized(record if record.owner == self.owner else self.taken_over(record))

    def taken_over(self, record: Record) -> Record:
        """Return another owner's record as this daemon's, which never grants (R7)."""
        return records.with_new_owner(record, self.owner, version=record.version, lost=True)

    def normalized(self, record: Record) -> Record:
        """Return the record with this machine's present name, and its grant marked as answered: a
        grant still stored as pending is from an earlier start.
        """
        if record.host is not None:
            record = host_binding.rename_host(record, self.owner)
        is_pending = record.grant is not None and record.grant.pending
        return records.with_grant_answered(record) if is_pending and not record.ownerless else record

    def new_record(self, discovery_id: str, *, version: int, max_ids: int | None) -> Record:
        """Return an empty record for a new ID. Raises TooManyIDs, Frozen."""
        self.freeze.check()
        self.check_room(max_ids)
        return Record(id=discovery_id, owner=self.owner, version=version, created_at=self._wall_us())

    def check_room(self, max_ids: int | None) -> None:
        """Raise TooManyIDs if there are `max_ids` already."""
        if max_ids is not None and self._store.count_all() >= max_ids:
            raise TooManyIDs

    async def save(self, before: Record | None, after: Record, version: int | None = None) -> Record:
        """Write `after` under a new version, or `version`, unless it is `before`; return it once the
        disk has it.
        """
        if after is before:
            await self.flush(after.id)
            return after
        after = replace(after, version=self.versions.next() if version is None else version)
        await self._journal.append(self._store.put(after))
        return after

    async def flush(self, discovery_id: str) -> None:
        """Return once the newest record, which an answer depends on, is durable (R6)."""
        if self._store.is_pending(discovery_id):
            await self._journal.barrier()
