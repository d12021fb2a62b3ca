"""Takeover of records from other daemons: imports, inherited IDs, and nodes that others
answered.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from twisted.logger import Logger

from rqdisco.backends.limits import Limits
from rqdisco.backends.single.local_records import LocalRecords
from rqdisco.core import records, transitions
from rqdisco.core.errors import ImportConflict, LoopbackConflict, TooManyNodes, Undecided
from rqdisco.core.exports import TransferredRecord, adopted, is_equivalent, may_adopt, to_record
from rqdisco.core.records import Grant, Moment, Node, Record
from rqdisco.storage.memory import Change, Store


class Takeover:
    """Takes records and nodes of other daemons into `local_records`."""

    _log = Logger()

    def __init__(self, store: Store, local_records: LocalRecords, limits: Limits, now: Callable[[], Moment]) -> None:
        self._store = store
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

    def inherit(self, record: Record, *, lost: bool) -> Record:
        """Return the record as this daemon's own, after its owner handed it over or was lost
        (R7).
        """
        version = self._records.versions.next()
        return self._reset_claim_window(records.with_new_owner(record, self._records.owner, version=version, lost=lost))

    def _reset_claim_window(self, record: Record) -> Record:
        """Restart the window in which only the winner of an unreported claim may repeat it: when,
        and for an import where, the winner was answered is not known here (R5c).
        """
        if record.ownerless or record.unreported is None or record.leader is None:
            return record
        now = self._now()
        grant = record.grant or Grant(addr=record.leader.addr, boot=now.boot, at=now.ms)
        return replace(record, grant=replace(grant, boot=now.boot, at=now.ms))

    def add_node(self, discovery_id: str, node: Node, host: str | None) -> tuple[Change, ...]:
        """List a node that another daemon answered (R4); return the change to write, if any.

        Leaves out a node for which there is no room, no record or no permission (R5d). Raises as
        `check_addable`.
        """
        return self._add(self._records.newest(discovery_id), node, host)

    def add_own_node(self, discovery_id: str, node: Node, host: str | None) -> tuple[Change, ...]:
        """As `add_node`, for a node that this daemon answered before it was ready. Raises
        Undecided.
        """
        self._check_undecided(discovery_id)
        record = self._store.newest(discovery_id)
        if record is not None and record.owner != self._records.owner:
            record = self._records.taken_over(record)
        return self._add(None if record is None else self._records.normalized(record), node, host)

    def check_addable(self, discovery_id: str) -> None:
        """Raise Undecided where a node cannot be added now, since a grant of the ID may be
        pending.
        """
        self._check_undecided(discovery_id)
        self._records.newest(discovery_id)

    def _check_undecided(self, discovery_id: str) -> None:
        if self._records.grants.is_decided(discovery_id):
            raise Undecided("another decision about this ID is in progress")

    def _add(self, record: Record | None, node: Node, host: str | None) -> tuple[Change, ...]:
        if record is None:
            return ()
        try:
            after = transitions.add(record, node, host=host, max_nodes=self._limits.max_nodes)
        except (TooManyNodes, LoopbackConflict) as refusal:
            self._log.warn(
                "node registered at another daemon not added: {why}",
                why=str(refusal),
                addr=node.addr,
                discovery_id=record.id,
            )
            return ()
        if after is record:
            return ()
        if record.was_emptied and not record.nodes:
            self._log.warn(
                "node registered at another daemon listed, though the list was emptied: if more follow and no cluster"
                " forms, stop all nodes of the ID and reset it",
                addr=node.addr,
                discovery_id=record.id,
            )
        return (self._store.put(replace(after, version=self._records.versions.next())),)
