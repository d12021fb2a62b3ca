"""The directory of a stateless daemon: it reads from etcd, decides, and writes by a transaction that
succeeds only if nothing has changed since (E1).

Every daemon may decide about every ID, and keeps nothing of it in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.conflicts import BackOff
from rqdisco.backends.etcd.decisions import WriteStamp
from rqdisco.backends.etcd.grants import GrantAttempt, GrantWriter
from rqdisco.backends.etcd.leases import SharedLeases
from rqdisco.backends.etcd.messages import Compare, Range, TxnOperation, prefix_end, put_op
from rqdisco.backends.etcd.record_store import Applied, Conflict, RecordChange, RecordStore, Snapshot
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.backends.etcd.stored import Stored, granted, plain, written
from rqdisco.backends.etcd.watches import Watches
from rqdisco.backends.single.limits import Limits
from rqdisco.core import host_binding, transitions
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import AmbiguousName, NoSuchID, Ownerless, TooManyIDs, UnknownCreatedID
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.ids import is_created_id, new_id
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View, view_of

_PAGE = 300
# A claim repeated so often is logged: its rqlited drops the answer inside its join loop.
_MANY_CLAIMS = 3
_REMOVAL_POLL_SECONDS = 0.25
_ON_ITS_WAY = "the answer that told its node to bootstrap may still be on its way, try again in some seconds"


class Observer(Protocol):
    """What else of the daemon learns of decisions made here."""

    def claimed(self, discovery_id: str) -> None:
        """A claim was won, and awaits its leader's first report."""

    def reported(self, before: Record, after: Record) -> None:
        """A leader reported itself, whether or not that changed anything."""


class EtcdParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that a directory is built from.

    `machine` names the machine of the daemon in records. `retry_windows` are the leases of the
    windows of registrations, None if grants are not repeated; `claim_windows` those of claims.
    `unused` are the leases of IDs that never had a node, None if these do not expire. `count`
    returns about how many IDs there are, None if that is not known. `jitter` returns a factor
    around 1.
    """

    store: RecordStore
    state: StoreState
    grants: GrantWriter
    retry_windows: SharedLeases | None
    claim_windows: SharedLeases
    unused: SharedLeases | None
    watches: Watches
    environment: Environment
    clock: IReactorTime
    jitter: Callable[[], float]
    limits: Limits
    machine: str
    count: Callable[[], int | None]
    observer: Observer


class EtcdDirectory:
    """The directory of a daemon whose records are in etcd; see `core.directory.Directory`."""

    _log = Logger()

    def __init__(self, parts: EtcdParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._state = parts.state
        self._grants = parts.grants
        self._limits = parts.limits

    @property
    def index(self) -> int:
        return self._store.newest_version

    def is_owner_of(self, record: View | Record) -> bool:
        return record.owner == self._state.meta.store_id and not record.ownerless

    def name_host(self, host: str | None) -> str | None:
        return host_binding.name_host(host, self._parts.machine)

    def age(self, record: View | Record) -> float | None:
        return 0.0

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._parts.watches.add(discovery_id, changed)

    async def create(self) -> Record:
        self._check_room()
        self._state.check_changes()
        request = self._request()
        discovery_id = new_id(self._state.meta.store_id, self._parts.environment.random)
        record = decisions.new_record(discovery_id, self._state.meta, self._parts.environment.wall_us())
        lease = 0 if self._parts.unused is None else (await self._parts.unused.get()).id
        outcome = await self._store.commit(RecordChange(
            snapshot=Snapshot(id=discovery_id, record=None, revision=0),
            after=written(record, request.nonce, version=request.version(record)),
            nonce=request.nonce,
            is_won=lambda found: found.write == request.nonce,
            lease=lease,
        ))  # fmt: skip
        # The ID is random, so only the state of the store can have changed.
        return outcome.record if isinstance(outcome, Applied) else await self.create()

    async def look_up(self, discovery_id: str) -> View:
        return view_of(await self._existing(discovery_id), is_owner=True)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        return await self.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        return plain(await self._existing(discovery_id))

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
        host, back_off = self.name_host(host), self._back_off()
        snapshot = await self._store.snapshot(discovery_id)
        while True:
            record = self._known(snapshot)
            self._state.check_changes()
            request = self._request()
            outcome = decisions.register(snapshot, record, node, host, self._limits)
            if outcome.bootstrap is None:
                committed = await self._list(snapshot, outcome.record, node, request)
            else:
                self._check_grant(record)
                committed = await self._grants.commit(self._registration(snapshot, record, outcome, node, request))
            if isinstance(committed, Applied):
                return replace(outcome, record=committed.record)
            snapshot = committed.current
            await back_off.after_conflict()

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        back_off, listed_write, is_tried = self._back_off(), None, False
        snapshot = await self._store.snapshot(discovery_id)
        while True:
            record = self._known(snapshot)
            self._state.check_changes()
            after = transitions.remove(record, addr)
            if after is record:
                # It may have been removed by a copy of this request.
                return Removal(record=view_of(record, is_owner=True), removed=is_tried)
            if listed_write is not None and _write_of(record, addr) != listed_write:
                # E5: it registered again after the request arrived.
                return Removal(record=view_of(record, is_owner=True), removed=False)
            listed_write = _write_of(record, addr)
            if after.grant is None and record.grant is not None and self._grants.may_be_on_its_way(snapshot):
                await back_off.wait(_REMOVAL_POLL_SECONDS, _ON_ITS_WAY)
                snapshot = await self._store.snapshot(discovery_id)
                continue
            committed = await self._take_out(snapshot, record, after)
            if isinstance(committed, Applied):
                return Removal(record=view_of(committed.record, is_owner=True), removed=True)
            snapshot, is_tried = committed.current, True
            await back_off.after_conflict()

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        host, back_off = self.name_host(host), self._back_off()
        snapshot = await self._store.snapshot(discovery_id)
        while True:
            if snapshot.record is None and is_created_id(discovery_id):
                raise UnknownCreatedID(discovery_id)
            record = self._new_named(discovery_id) if snapshot.record is None else snapshot.record
            request = self._request()
            outcome = decisions.claim(snapshot, record, put, host, self._limits, request)
            if not outcome.won:
                return outcome
            self._check_grant(record)
            committed = await self._grants.commit(self._claim(snapshot, record, outcome, put, request))
            if isinstance(committed, Applied):
                self._note_claim(committed.record)
                return replace(outcome, record=committed.record)
            snapshot = committed.current
            await back_off.after_conflict()

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        host, back_off = self.name_host(host), self._back_off()
        snapshot = await self._store.snapshot(discovery_id)
        while True:
            known = snapshot.record
            if index is not None and not (_is_at(known, index) and transitions.may_see_leader(known, put)):
                return False
            self._state.check_changes()
            record = self._new_named(discovery_id) if known is None else known
            if known is None and is_created_id(discovery_id):
                # The cluster exists; but the store that created the ID may have granted others (R7).
                record = replace(record, ownerless=True)
            request = self._request()
            after = decisions.report(record, put, host, self._limits, request)
            if after is None:
                return False
            if after is record:
                self._parts.observer.reported(record, record)
                return True
            committed = await self._list(snapshot, after, put.node, request)
            if isinstance(committed, Applied):
                self._parts.observer.reported(record, committed.record)
                return True
            snapshot = committed.current
            await back_off.after_conflict()

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        back_off, put_at, is_tried = self._back_off(), None, False
        removed: Literal["leader", "claim"] = "leader"
        snapshot = await self._store.snapshot(discovery_id)
        while True:
            record = snapshot.record
            if record is None or record.leader is None:
                return Clearing(done=True, removed=removed if is_tried else None)
            if put_at is not None and record.leader.modified != put_at:
                # E5: this key was put after the request arrived.
                return Clearing(done=True)
            if index is not None and not _is_at(record, index):
                return Clearing(done=False)
            self._state.check_changes()
            put_at, removed = record.leader.modified, "leader" if record.unreported is None else "claim"
            if record.unreported is not None and self._grants.may_be_on_its_way(snapshot):
                await back_off.wait(_REMOVAL_POLL_SECONDS, _ON_ITS_WAY)
                snapshot = await self._store.snapshot(discovery_id)
                continue
            committed = await self._take_out(snapshot, record, transitions.clear_leader(record))
            if isinstance(committed, Applied):
                return Clearing(done=True, removed=removed)
            snapshot, is_tried = committed.current, True
            await back_off.after_conflict()

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        keys = self._store.keys
        start, end = keys.ids, prefix_end(keys.ids)
        while True:
            (page,) = await self._store.read(Range(key=start, range_end=end, limit=_PAGE))
            if page.kvs:
                yield [plain(self._store.decoded(each)) for each in page.kvs]
            if not page.more:
                return
            start = page.kvs[-1].key + b"\0"

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool) -> bool:
        back_off = self._back_off()
        snapshot = await self._store.snapshot(transferred.id)
        while True:
            self._state.check_changes()
            known, request = snapshot.record, self._request()
            version = request.wall_ms if known is None else request.version(known)
            after = decisions.import_record(known, transferred, self._state.meta, self._limits, version, as_own=as_own)
            if after is known:
                return False
            if known is None:
                self._check_room()
            committed = await self._store.commit(await self._import(snapshot, after, request))
            if isinstance(committed, Applied):
                return True
            snapshot = committed.current
            await back_off.after_conflict()

    async def _existing(self, discovery_id: str) -> Stored:
        record = await self._store.record(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        return record

    def _known(self, snapshot: Snapshot) -> Stored:
        if snapshot.record is None:
            raise NoSuchID(snapshot.id)
        return snapshot.record

    def _new_named(self, discovery_id: str) -> Stored:
        """Return a record for an ID that no daemon created. Raises NoSuchID, TooManyIDs,
        Undecided.
        """
        if not self._limits.create_named:
            raise NoSuchID(discovery_id)
        self._check_room()
        return decisions.new_record(discovery_id, self._state.meta, self._parts.environment.wall_us())

    def _check_room(self) -> None:
        """Raise TooManyIDs if there are about as many as allowed."""
        count = self._parts.count()
        if self._limits.max_ids is not None and count is not None and count >= self._limits.max_ids:
            raise TooManyIDs

    def _check_grant(self, record: Record) -> None:
        self._state.check_grants()
        if not self.is_owner_of(record):
            raise Ownerless(record.id)

    def _request(self) -> WriteStamp:
        environment = self._parts.environment
        return WriteStamp(environment.random(8).hex(), environment.wall_us() // 1000)

    def _back_off(self) -> BackOff:
        return BackOff(self._parts.clock, self._parts.jitter)

    async def _list(self, snapshot: Snapshot, after: Record, node: Node, request: WriteStamp) -> Applied | Conflict:
        """Write a record in which a node registered or reported itself."""
        assert isinstance(after, Stored)
        return await self._store.commit(RecordChange(
            snapshot=snapshot,
            after=written(after, request.nonce, addr=node.addr, version=request.version(after)),
            nonce=request.nonce,
            is_won=lambda found: found.writes.get(node.addr) == request.nonce,
        ))  # fmt: skip

    async def _take_out(self, snapshot: Snapshot, record: Stored, after: Record) -> Applied | Conflict:
        """Write a record without a node, or without its leader."""
        assert isinstance(after, Stored)
        request = self._request()
        closes = after.grant is None and record.grant is not None
        return await self._store.commit(RecordChange(
            snapshot=snapshot,
            after=written(after, request.nonce, version=request.version(record)),
            nonce=request.nonce,
            is_won=lambda found: found.write == request.nonce,
            more=self._store.without_window(snapshot.id) if closes else (),
        ))  # fmt: skip

    def _registration(
        self, snapshot: Snapshot, record: Stored, outcome: RegistrationOutcome, node: Node, request: WriteStamp
    ) -> GrantAttempt:
        after, is_new = outcome.record, outcome.bootstrap == "granted"
        assert isinstance(after, Stored)
        if is_new:
            after = granted(after, request.nonce, request.wall_ms)
        compare: tuple[Compare, ...] = ()
        if not is_new and not record.unheard:
            # E4: the window must be open when the transaction is applied.
            assert snapshot.window is not None
            compare = (Compare(key=snapshot.window.key, mod_revision=snapshot.window.mod_revision),)
        return GrantAttempt(
            snapshot=snapshot,
            before=record,
            after=written(
                replace(after, unheard=False), request.nonce, addr=node.addr, version=request.version(record)
            ),
            nonce=request.nonce,
            addr=node.addr,
            grants_anew=is_new,
            window=self._parts.retry_windows if is_new or record.unheard else None,
            compare=compare,
        )

    def _claim(
        self, snapshot: Snapshot, record: Stored, outcome: ClaimOutcome, put: Put, request: WriteStamp
    ) -> GrantAttempt:
        after, window = outcome.record, snapshot.window
        assert isinstance(after, Stored)
        # R5c: the window must be as open, or as closed, as it was when this was decided.
        revision = 0 if window is None else window.mod_revision
        after = granted(after, request.nonce, request.wall_ms)
        return GrantAttempt(
            snapshot=snapshot,
            before=record,
            after=written(after, request.nonce, addr=put.node.addr, version=request.version(after)),
            nonce=request.nonce,
            addr=put.node.addr,
            grants_anew=not outcome.again,
            window=self._parts.claim_windows,
            compare=(Compare(key=self._store.keys.window(record.id), mod_revision=revision),),
        )

    def _note_claim(self, record: Stored) -> None:
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

    async def _import(self, snapshot: Snapshot, after: Stored, request: WriteStamp) -> RecordChange:
        after, more = decisions.with_claimed_grant(after), list[TxnOperation]()
        if after.grant is not None:
            after = granted(after, request.nonce, request.wall_ms)
            if after.unreported is not None:
                # When, and where, the winner was answered is not known here (R5c).
                lease = await self._parts.claim_windows.get()
                more.append(put_op(self._store.keys.window(after.id), request.nonce.encode(), lease.id))
        writes = {node.addr: request.nonce for node in after.nodes}
        return RecordChange(
            snapshot=snapshot,
            after=written(replace(after, writes=writes), request.nonce, version=after.version),
            nonce=request.nonce,
            is_won=lambda found: found.write == request.nonce,
            more=tuple(more),
        )


def _write_of(record: Stored, addr: str) -> str:
    """Return the nonce of the registration that a removal of `addr` removes."""
    return next(
        (record.writes.get(each, "") for each in (addr, addr.removeprefix("http://")) if each in record.writes), ""
    )


def _is_at(record: Record | None, index: int) -> bool:
    return record is not None and record.leader is not None and record.leader.modified == index
