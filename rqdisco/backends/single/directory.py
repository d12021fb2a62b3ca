"""The directory of one daemon that owns its IDs: decides, makes durable, answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace
from twisted.logger import Logger

from rqdisco.backends.environment import Environment
from rqdisco.backends.limits import Limits
from rqdisco.backends.single.local_records import LocalRecords
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.takeover import Takeover
from rqdisco.core import decisions, host_binding, transitions
from rqdisco.core.codec import Metadata
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import AmbiguousName, IDExists, NoSuchID, Ownerless, UnknownCreatedID
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.ids import is_created_id, new_id
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View, view_of
from rqdisco.storage.memory import Store
from rqdisco.storage.ordered_keys import ordered_keys
from rqdisco.storage.wal.writer import Journal

T = TypeVar("T")
# Decoding a page takes about a millisecond.
_PAGE = 100


class SingleDirectory:
    """The directory of one daemon, which owns every ID that it creates (R1) and names its machine in
    records. `metadata` is stored beside the records.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        journal: Journal,
        owner: str,
        environment: Environment,
        limits: Limits,
        *,
        metadata: Sequence[Metadata] = (),
    ) -> None:
        self._store = store
        self._journal = journal
        self._now = environment.now
        self._began_ms = self._now().ms
        self._random = environment.random
        self._limits = limits
        self._subscriptions = Subscriptions()
        store.on_settled.append(self._subscriptions.settled)
        store.on_dropped.append(self._subscriptions.dropped)
        self._records = LocalRecords(store, journal, self._subscriptions, owner, environment.wall_us, metadata)
        self.grants, self.versions = self._records.grants, self._records.versions
        self.takeover = Takeover(self._records, limits, self._now)

    @property
    def size(self) -> int:
        """The number of IDs on the disk."""
        return len(self._store)

    @property
    def index(self) -> int:
        return max(1, self._store.settled_version)

    @property
    def store_id(self) -> str:
        return self._records.owner

    @property
    def frozen(self) -> str | None:
        return self._records.freeze.reason

    async def freeze(self, reason: str) -> None:
        await self._records.freeze.freeze(reason)

    async def thaw(self) -> None:
        await self._records.freeze.thaw()

    def has_owner(self, record: View | Record) -> bool:
        return record.owner == self._records.owner and not record.ownerless

    async def create(self) -> Record:
        discovery_id, version = new_id(self._records.owner, self._random), self.versions.next()
        record = self._records.new_record(discovery_id, version=version, max_ids=self._limits.max_ids)
        return await self._records.save(None, record, version)

    async def create_named(self, discovery_id: str) -> Record:
        if await self._records.after_pending_grant(discovery_id) is not None:
            # The disk may still refuse it.
            await self._records.flush(discovery_id)
            raise IDExists(discovery_id)
        version = self.versions.next()
        record = self._records.new_record(discovery_id, version=version, max_ids=self._limits.max_ids)
        return await self._records.save(None, record, version)

    def name_host(self, host: str | None) -> str | None:
        return host_binding.name_host(host, self._records.owner)

    async def look_up(self, discovery_id: str) -> View:
        record = self.grants.shown(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        return self.view(record)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        return await self.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        record = self._inspect(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        return record

    def view(self, record: Record) -> View:
        is_owner = record.owner == self._records.owner
        if is_owner:
            record = host_binding.rename_host(record, self._records.owner)
        return view_of(record, is_owner=is_owner)

    def age(self, record: View | Record) -> float | None:
        return 0.0

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._subscriptions.add(discovery_id, changed)

    async def look_up_name(self, name: str) -> View:
        variants = [key.decode() for key in self._store.name_index.variants(name.encode())]
        if not variants:
            return await self.look_up(name)
        if len(variants) > 1 or self._store.settled(name) is not None:
            raise AmbiguousName(name)
        return await self.look_up(variants[0])

    async def has_subdomains(self, name: str) -> bool:
        return self._store.name_index.has_subdomains(name.encode())

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        if discovery_id in self.grants.pending:
            await self.grants.finished(discovery_id)
        if self._records.freeze.reason is not None:
            self._records.freeze.check()
        record = self._records.newest(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        outcome = transitions.register(
            record,
            node,
            host=self.name_host(host),
            now=self._now(),
            retry_window_ms=self._limits.retry_window_ms,
            max_nodes=self._limits.max_nodes,
        )
        if outcome.bootstrap is not None:
            self._check_owner(record)
        if record.ownerless:
            outcome = decisions.list_ownerless(outcome, self.view(outcome.record), node)
        if outcome.bootstrap != "granted":
            return replace(outcome, record=await self._records.save(record, outcome.record))
        granted = replace(outcome.record, version=self.versions.next())
        return replace(outcome, record=await self.grants.commit(record, granted))

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        # The disk may still refuse what was decided, and then what is shown is listed again.
        arrival = (self.grants.newest(discovery_id), self.grants.shown(discovery_id))
        record = await self._records.after_pending_grant(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        after = decisions.remove(record, arrival, addr)
        saved = await self._records.save(record, after)
        return Removal(record=self.view(saved), removed=after is not record)

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        host = self.name_host(host)
        known = await self._records.after_pending_grant(discovery_id)
        if known is None and is_created_id(discovery_id):
            raise UnknownCreatedID(discovery_id)
        record = self._new_named(discovery_id) if known is None else known
        outcome = self._claim(record, put, host)
        if not outcome.won:
            await self._records.flush(record.id)
            return outcome
        self._check_owner(record)
        if outcome.again:
            # No other node was ever sent to this one, so there is nothing to ask peers for (R5c).
            record = await self._records.save(record, outcome.record, outcome.record.version)
            if (fields := decisions.many_claims(record)) is not None:
                self._log.warn(decisions.MANY_CLAIMS, **fields)
            return replace(outcome, record=record)
        return replace(outcome, record=await self.grants.commit(record, outcome.record))

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        host = self.name_host(host)
        known = await self._records.after_pending_grant(discovery_id)
        if not decisions.may_report(known, put, index):
            await self._records.flush(discovery_id)
            return False
        version = self.versions.next()
        record = decisions.reported_first(self._new_named(discovery_id)) if known is None else known
        after = transitions.report(record, put, host=host, version=version, max_nodes=self._limits.max_nodes)
        if after is None:
            await self._records.flush(discovery_id)
            return False
        await self._records.save(record, after, version)
        return True

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        # The disk may still refuse what was decided, and then what is shown is there again.
        arrival = (self.grants.newest(discovery_id), self.grants.shown(discovery_id))
        record = await self._records.after_pending_grant(discovery_id)
        after, clearing = decisions.clear_leader(record, arrival, index)
        if after is None or after is record:
            await self._records.flush(discovery_id)
        else:
            await self._records.save(record, after)
        return clearing

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        scan = self._store.scan()
        while keys := scan.next_keys(_PAGE):
            page = [self._inspect(key.decode()) for key in keys]
            yield [record for record in page if record is not None]

    async def search(self, after: str, text: str) -> AsyncIterator[Sequence[Record]]:
        for keys in ordered_keys(self._store, after, text):
            page = [self._inspect(key.decode()) for key in keys]
            yield [record for record in page if record is not None]

    async def count(self) -> int:
        return self.size

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None = None) -> bool:
        return await self.takeover.import_record(transferred, as_own=as_own, during=during)

    def has_pending_grant(self, discovery_id: str) -> bool:
        """Report whether a grant of the ID is pending."""
        return discovery_id in self.grants.pending

    def _inspect(self, discovery_id: str) -> Record | None:
        record = self.grants.shown(discovery_id)
        is_own = record is not None and record.owner == self._records.owner
        return self._records.normalized(record) if record is not None and is_own else record

    def _new_named(self, discovery_id: str) -> Record:
        """Return a record for an ID that no daemon created, older than any version. Raises
        NoSuchID, TooManyIDs, Frozen.
        """
        if not self._limits.create_named:
            raise NoSuchID(discovery_id)
        return self._records.new_record(discovery_id, version=0, max_ids=self._limits.max_ids)

    def _claim(self, record: Record, put: Put, host: str | None) -> ClaimOutcome:
        version = self.versions.next()
        outcome = transitions.claim(
            record,
            put,
            host=host,
            version=version,
            now=self._now(),
            max_nodes=self._limits.max_nodes,
            is_hidden=not self._limits.visible_claims,
            may_repeat=True,
            began_ms=self._began_ms,
        )
        return replace(outcome, record=replace(outcome.record, version=version)) if outcome.won else outcome

    def _check_owner(self, record: Record) -> None:
        """Raise Ownerless for an ID of a lost daemon (R1, R7)."""
        if not self.has_owner(record):
            raise Ownerless(record.id)
