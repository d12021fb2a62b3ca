"""Read and change the records that this daemon decides about.

`LocalRecords` returns the newest record of an ID, which may not be on the disk yet, and writes a
changed one to the journal and a peer. `SingleDirectory` and `Takeover` decide what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from rqdisco.backends.single.coordinator import Coordinator
from rqdisco.backends.single.freeze import Freeze
from rqdisco.backends.single.grants import Grants
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.versions import Versions
from rqdisco.core import host_binding, records
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import NoSuchID, TooManyIDs, Undecided
from rqdisco.core.ids import is_created_id, owner_tag
from rqdisco.core.records import Record
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal


class LocalRecords:
    """The records that the daemon `owner` decides about; `machine` names its host in records."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        subscriptions: Subscriptions,
        owner: str,
        machine: str,
        wall_us: Callable[[], int],
        coordinator: Coordinator | None,
        metadata: Sequence[Metadata] = (),
    ) -> None:
        self._store = store
        self._journal = journal
        self.owner = owner
        self.machine = machine
        self._wall_us = wall_us
        self._coordinator = coordinator
        self.versions = Versions(store, wall_us)
        self.grants = Grants(store, journal, self.versions, subscriptions, coordinator)
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

    def newest(self, discovery_id: str, *, as_stored: bool = False) -> Record | None:
        """Return the newest record as this daemon's own, None if there is none. `as_stored` omits
        `normalized`, so that the record equals the one stored under its version, here and at peers.

        Raises Undecided if the daemon may not decide about the ID now.
        """
        record = self._store.newest(discovery_id)
        if record is not None and self._coordinator is not None:
            self._coordinator.check(record)
            # The check may add nodes that were answered before this daemon was ready.
            record = self._store.newest(discovery_id) or record
        if record is None:
            return None
        record = record if record.owner == self.owner else self.taken_over(record)
        return record if as_stored else self.normalized(record)

    def taken_over(self, record: Record) -> Record:
        """Return another owner's record as this daemon's. It never grants if that owner was lost
        (R7).
        """
        lost = self._coordinator is None or self._coordinator.is_lost(record.owner)
        return records.with_new_owner(record, self.owner, version=record.version, lost=lost)

    def normalized(self, record: Record) -> Record:
        """Return the record with this machine's present name, and its grant marked as answered: a
        grant still stored as pending is from an earlier start.
        """
        if record.host is not None:
            record = host_binding.rename_host(record, self.machine)
        is_pending = record.grant is not None and record.grant.pending
        return records.with_grant_answered(record) if is_pending and not record.ownerless else record

    def new_record(self, discovery_id: str, *, version: int, max_ids: int | None) -> Record:
        """Return an empty record for a new ID. Raises TooManyIDs, and Undecided if the daemon may
        not decide now.
        """
        self.freeze.check()
        self.check_room(max_ids)
        if self._coordinator is not None:
            self._coordinator.created(discovery_id)
        return Record(id=discovery_id, owner=self.owner, version=version, created_at=self._wall_us())

    def check_room(self, max_ids: int | None) -> None:
        """Raise TooManyIDs if there are `max_ids` already."""
        if max_ids is not None and self._store.count_all() >= max_ids:
            raise TooManyIDs

    def missing_error(self, discovery_id: str) -> NoSuchID | Undecided:
        """Return the error for an ID without a record. It is Undecided if this daemon may have
        created the ID, and only a peer still has it (R8).
        """
        if (
            self._coordinator is not None
            and is_created_id(discovery_id)
            and owner_tag(discovery_id) == owner_tag(self.owner)
        ):
            try:
                self._coordinator.check_unknown()
            except Undecided as doubt:
                return doubt
        return NoSuchID(discovery_id)

    async def save(self, before: Record | None, after: Record, version: int | None = None) -> Record:
        """Write `after` under a new version, or `version`, unless it is `before`; return it once the
        disk has it, and a peer where one is up.
        """
        if after is before:
            await self.flush(after.id)
            return after
        after = replace(after, version=self.versions.next() if version is None else version)
        await self._journal.append(self._store.put(after))
        if self._coordinator is not None:
            await self._coordinator.replicated(after.version, is_grant=False)
        return after

    async def flush(self, discovery_id: str) -> None:
        """Return once the newest record, which an answer depends on, is durable (R6)."""
        if self._store.is_pending(discovery_id):
            await self._journal.barrier()
