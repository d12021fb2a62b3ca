"""The directory of a stateless daemon: it reads from etcd, decides, and writes by a transaction that
succeeds only if nothing has changed since (E1).

Every daemon may decide about every ID, and keeps nothing of it in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.etcd_record import EtcdRecord, to_record, with_write
from rqdisco.backends.etcd.imports import Imports
from rqdisco.backends.etcd.leader_keys import LeaderKeys
from rqdisco.backends.etcd.messages import Range, prefix_end
from rqdisco.backends.etcd.paging import RangeCursor
from rqdisco.backends.etcd.record_store import Applied, RecordChange, Snapshot
from rqdisco.backends.etcd.record_writer import EtcdParts, RecordWriter
from rqdisco.backends.etcd.registrations import Registrations
from rqdisco.core import host_binding
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import AmbiguousName, IDExists, NoSuchID
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.ids import new_id
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View, view_of

_PAGE = 300
# They are also compared and encoded in the same turn of the reactor.
_SEARCH_PAGE = 100
# How often a freeze looks whether the answers to grants have left.
_FREEZE_POLL_SECONDS = 0.5


class EtcdDirectory:
    """The directory of a daemon whose records are in etcd; see `core.directory.Directory`."""

    def __init__(self, parts: EtcdParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._state = parts.state
        self._writer = writer = RecordWriter(parts)
        self._registrations = Registrations(parts, writer)
        self._leader_keys = LeaderKeys(parts, writer)
        self._imports = Imports(parts, writer)

    @property
    def index(self) -> int:
        return self._store.newest_version

    @property
    def store_id(self) -> str:
        return self._state.meta.store_id

    @property
    def frozen(self) -> str | None:
        return self._state.frozen

    async def freeze(self, reason: str) -> None:
        # Every transaction compares this state, so none that was decided before grants anything.
        await self._state.freeze(reason)
        prefix, back_off = self._store.keys.answers, self._writer.back_off()
        answers = Range(key=prefix, range_end=prefix_end(prefix))
        while True:
            (found,) = await self._store.read(answers)
            if not any(map(self._parts.grants.is_on_its_way, found.kvs)):
                return
            await back_off.wait(_FREEZE_POLL_SECONDS, "grants are still being answered, try again")

    async def thaw(self) -> None:
        await self._state.thaw()

    def has_owner(self, record: View | Record) -> bool:
        return record.owner == self._state.meta.store_id and not record.ownerless

    def name_host(self, host: str | None) -> str | None:
        return host_binding.name_host(host, self._parts.machine)

    def age(self, record: View | Record) -> float | None:
        return 0.0

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._parts.watches.add(discovery_id, changed)

    async def create(self) -> Record:
        back_off = self._writer.back_off()
        while (created := await self._try_to_create()) is None:
            await back_off.after_conflict()
        return created

    async def _try_to_create(self) -> Record | None:
        self._writer.check_room()
        self._state.check_changes()
        # It compares the state as it was checked, whatever is learned while a lease is requested.
        change = self._creation(new_id(self._state.meta.store_id, self._parts.environment.random))
        lease = None if self._parts.unused is None else await self._parts.unused.get()
        outcome = await self._store.commit(change if lease is None else replace(change, lease=lease.id))
        if isinstance(outcome, Applied):
            return outcome.record
        # The ID is random, so the state of the store has changed, or the lease has expired.
        if self._parts.unused is not None:
            self._parts.unused.discard(lease)
        return None

    async def create_named(self, discovery_id: str) -> Record:
        back_off = self._writer.back_off()
        while True:
            self._writer.check_room()
            self._state.check_changes()
            # Without a lease, which would leave the index of the name behind (E6).
            outcome = await self._store.commit(self._creation(discovery_id))
            if isinstance(outcome, Applied):
                return outcome.record
            if outcome.current.record is not None:
                raise IDExists(discovery_id)
            await back_off.after_conflict()

    def _creation(self, discovery_id: str) -> RecordChange:
        """Return the write that creates an ID, if it does not exist."""
        stamp = self._writer.stamp()
        record = decisions.new_record(discovery_id, self._state.meta, self._parts.environment.wall_us())
        return RecordChange(
            snapshot=Snapshot(id=discovery_id, record=None, revision=0, state=self._state.compare()),
            after=with_write(record, stamp.nonce, version=stamp.version(record)),
            nonce=stamp.nonce,
            was_applied=lambda found: found.last_nonce == stamp.nonce,
        )

    async def look_up(self, discovery_id: str) -> View:
        return view_of(await self._existing(discovery_id), is_owner=True)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        return await self.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        return to_record(await self._existing(discovery_id))

    async def count(self) -> int:
        keys = self._store.keys
        (found,) = await self._store.read(Range(key=keys.ids, range_end=prefix_end(keys.ids), count_only=True))
        return found.count

    async def look_up_name(self, name: str) -> View:
        keys = self._store.keys
        prefix = keys.variants(name)
        found, exact = await self._store.read(
            Range(key=prefix, range_end=prefix_end(prefix), limit=2, keys_only=True), Range(key=keys.id(name))
        )
        if len(found.kvs) + len(exact.kvs) > 1:
            raise AmbiguousName(name)
        if exact.kvs:
            return view_of(self._store.decoded(exact.kvs[0]), is_owner=True)
        if not found.kvs:
            raise NoSuchID(name)
        return await self.look_up(keys.id_of(found.kvs[0].key))

    async def has_subdomains(self, name: str) -> bool:
        prefix = self._store.keys.below(name)
        (found,) = await self._store.read(Range(key=prefix, range_end=prefix_end(prefix), limit=1, keys_only=True))
        return bool(found.kvs)

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        return await self._registrations.register(discovery_id, node, host)

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        return await self._registrations.remove(discovery_id, addr)

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        return await self._leader_keys.claim(discovery_id, put, host)

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        return await self._leader_keys.report(discovery_id, put, host, index)

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        return await self._leader_keys.clear_leader(discovery_id, index)

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None = None) -> bool:
        return await self._imports.adopt(transferred, as_own=as_own, during=during)

    def view(self, record: Record) -> View:
        return view_of(record, is_owner=True)

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        cursor = RangeCursor(self._store.keys.ids, _PAGE)
        while not cursor.is_at_end:
            page = await self._store.read_part(cursor)
            if page.kvs:
                yield [to_record(self._store.decoded(each)) for each in page.kvs]

    async def search(self, after: str, text: str) -> AsyncIterator[Sequence[Record]]:
        cursor = RangeCursor(self._store.keys.ids, _SEARCH_PAGE, after.encode())
        while not cursor.is_at_end:
            page = await self._store.read_part(cursor)
            yield [to_record(self._store.decoded(each)) for each in page.kvs]

    async def _existing(self, discovery_id: str) -> EtcdRecord:
        record = await self._store.record(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        return record
