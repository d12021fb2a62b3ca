"""The directory of one daemon that is the home of its IDs: decides, makes durable, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rqdisco import records
from rqdisco.address import same_node
from rqdisco.directory import Removal
from rqdisco.errors import (
    AlreadyKnown,
    AmbiguousName,
    NoSuchID,
    Orphaned,
    TooManyIDs,
    TooManyNodes,
    Undecided,
)
from rqdisco.home.grants import Grants, PendingGrant
from rqdisco.home.others import Others
from rqdisco.home.versions import Versions
from rqdisco.home.watching import Watching
from rqdisco.ids import RandomBytes, is_minted, mint, tag
from rqdisco.journal.writer import Journal
from rqdisco.records import Claim, Moment, Node, Put, Record, Registration
from rqdisco.store import Change, Store
from rqdisco.transfer import Transferred, says_the_same, to_record


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator allows: the re-grant window in milliseconds, 0 for none, how much may be held, and whether an ID
    comes to be by its leader key being put.
    """

    window_ms: int = 30_000
    max_ids: int | None = None
    max_nodes: int = 1000
    make_named: bool = True


class LocalDirectory:
    """The directory of one daemon, which is the home of every ID it minted (R1); `others` are its peers, if any.

    `now` gives monotonic moments, `wall_us` the wall clock in microseconds, which only names and orders things.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        journal: Journal,
        home: str,
        *,
        now: Callable[[], Moment],
        wall_us: Callable[[], int],
        random: RandomBytes,
        limits: Limits,
        others: Others | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._home = home
        self._now = now
        self._wall_us = wall_us
        self._random = random
        self._limits = limits
        self._others = others
        self._watching = Watching()
        store.on_settled.append(self._watching.settled)
        store.on_dropped.append(self._watching.dropped)
        self._versions = Versions(store, wall_us)
        self._grants = Grants(store, journal, self._versions, self._watching, others)

    @property
    def size(self) -> int:
        """The number of IDs held."""
        return len(self._store)

    @property
    def index(self) -> int:
        return max(1, self._store.settled_version)

    def is_home_of(self, record: Record) -> bool:
        return record.home == self._home and not record.lost

    async def create(self) -> Record:
        record = self._fresh(mint(self._home, self._random), self._versions.next())
        await self._write(record)
        return record

    async def look_up(self, discovery_id: str) -> Record:
        record = self._grants.shown(discovery_id)
        if record is None:
            raise self.unknown(discovery_id)
        return record

    async def look_up_at_home(self, discovery_id: str) -> Record:
        return await self.look_up(discovery_id)

    def age(self, record: Record) -> float | None:
        return 0.0

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._watching.add(discovery_id, changed)

    async def look_up_name(self, name: str) -> Record:
        spellings = [key.decode() for key in self._store.spellings.of(name.encode())]
        if not spellings:
            return await self.look_up(name)
        if len(spellings) > 1 or self._store.settled(name) is not None:
            raise AmbiguousName(name)
        return await self.look_up(spellings[0])

    async def is_above(self, name: str) -> bool:
        return self._store.spellings.is_above(name.encode())

    async def register(self, discovery_id: str, node: Node) -> Registration:
        record = await self._decidable(discovery_id)
        outcome = self._register(record, node)
        if outcome.alone is not None:
            self._check_home(record)
        if record.lost:
            outcome = _only_heard(outcome, node)
        if outcome.alone != "granted":
            return replace(outcome, record=await self._durably(record, outcome.record))
        pending = self._grants.hold(record.id)
        if self._others is not None and (record.ever or record.nodes):
            record = await self._past_barrier(pending)
            outcome = self._register(record, node)
            if outcome.alone != "granted":
                # The change is put before others may decide.
                durably = Deferred.fromCoroutine(self._durably(record, outcome.record))
                self._grants.end(pending)
                return replace(outcome, record=await durably)
        granted = await self._grants.tell(pending, record, replace(outcome.record, version=self._versions.next()))
        return replace(outcome, record=granted)

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        # What was decided may still be refused by the disk, and what is shown is then there again.
        arrived = [
            known
            for known in (self._grants.decided(discovery_id), self._grants.shown(discovery_id))
            if known is not None
        ]
        record = await self._decidable(discovery_id)
        # R9: what was listed on arrival goes, and not what registered while we waited.
        was_listed = any(records.remove(known, addr) is not known for known in arrived)
        if not was_listed or all(records.is_newer(record, known, addr) for known in arrived):
            return Removal(record=await self._durably(record, record), removed=False)
        after = records.remove(record, addr)
        return Removal(record=await self._durably(record, after), removed=after is not record)

    async def claim(self, discovery_id: str, put: Put) -> Claim:
        known = await self._decidable_if_any(discovery_id)
        record = self._named(discovery_id) if known is None else known
        outcome = self._claim(record, put)
        if not outcome.won:
            return replace(outcome, record=await self._durably(record, record))
        self._check_home(record)
        pending = self._grants.hold(record.id)
        if self._others is not None and record.ever:
            record = await self._past_barrier(pending)
            outcome = self._claim(record, put)
            if not outcome.won:
                self._grants.end(pending)
                return replace(outcome, record=await self._durably(record, record))
        return replace(outcome, record=await self._grants.tell(pending, record, outcome.record))

    async def report(self, discovery_id: str, put: Put, index: int | None = None) -> bool:
        known = await self._decidable_if_any(discovery_id)
        if index is not None and not _is_at(known, index):
            await self._durably_as_it_is(known)
            return False
        version = self._versions.next()
        record = self._named(discovery_id) if known is None else known
        after = records.report(record, put, version=version, max_nodes=self._limits.max_nodes)
        await self._durably(record, after, version)
        return True

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> bool:
        # What was decided may still be refused by the disk, and what is shown is then there again.
        arrived = (self._grants.decided(discovery_id), self._grants.shown(discovery_id))
        record = await self._decidable_if_any(discovery_id)
        if record is None or record.leader is None or (index is not None and not _is_at(record, index)):
            await self._durably_as_it_is(record)
            return record is None or record.leader is None
        # R9: what was put while we waited is not what the caller wants gone.
        was_there = any(_is_at(known, record.leader.modified) for known in arrived)
        await self._durably(record, records.clear_leader(record) if was_there else record)
        return True

    async def ids(self) -> Sequence[str]:
        return self._store.ids()

    async def adopt(self, brought: Transferred, *, as_own: bool) -> bool:
        known = await self._decidable_if_any(brought.id)
        version = self._versions.next()
        home = self._home if as_own or brought.home is None else brought.home
        record = self._own(to_record(brought, home, version=version, max_nodes=self._limits.max_nodes))
        if known is None:
            self._check_room()
            await self._write(record)
            return True
        if not says_the_same(known, record):
            raise AlreadyKnown(brought.id)
        after = known
        if as_own and not self.is_home_of(known):
            # As for what is brought: whoever was alone was told elsewhere.
            after = replace(known, lost=False, grant=None, ever=True)
        await self._durably(known, after, version)
        return after is not known

    def add(self, discovery_id: str, node: Node) -> tuple[Change, ...]:
        """Put a node on the list that was answered elsewhere (R4); return what has to be written.

        A node for which there is no room, or no record any more, is left out. Raises as `check_addable`.
        """
        record = self._newest(discovery_id)
        if record is None:
            return ()
        try:
            after = records.add(record, node, max_nodes=self._limits.max_nodes)
        except TooManyNodes:
            self._log.warn("no room for a node that was registered elsewhere", discovery_id=discovery_id)
            return ()
        if after is record:
            return ()
        return (self._store.put(replace(after, version=self._versions.next())),)

    def known(self, discovery_id: str) -> Record | None:
        """The newest record, without a grant that may never be heard."""
        return self._grants.decided(discovery_id)

    def shown(self, discovery_id: str) -> Record | None:
        """The record as it is shown, None if there is none."""
        return self._grants.shown(discovery_id)

    def unknown(self, discovery_id: str) -> NoSuchID | Undecided:
        """What is to be said of an ID that is not held here: it may have been minted by this very home, and be known
        to others only (R8).
        """
        if self._others is not None and is_minted(discovery_id) and tag(discovery_id) == tag(self._home):
            try:
                self._others.check_unknown()
            except Undecided as doubt:
                return doubt
        return NoSuchID(discovery_id)

    def check_addable(self, discovery_id: str) -> None:
        """Raise Undecided where a node cannot be added now: a grant of the ID may be on its way."""
        if self._grants.is_decided_of(discovery_id):
            raise Undecided("a decision is on its way")
        self._newest(discovery_id)

    @property
    def is_deciding(self) -> bool:
        """Whether any grant is on its way."""
        return self._grants.are_any

    def is_deciding_of(self, discovery_id: str) -> bool:
        """Whether one of the ID is."""
        return self._grants.is_any_of(discovery_id)

    def next_version(self) -> int:
        """A version for a change of an own record."""
        return self._versions.next()

    @property
    def issued(self) -> int:
        """The highest version that was given out in this boot."""
        return self._versions.issued

    async def settle(self) -> None:
        """Revoke what nobody heard and the disk would not let go of; the last chance before the end."""
        await self._grants.settle()

    def _named(self, discovery_id: str) -> Record:
        """A record for an ID that nobody minted, older than any. Raises NoSuchID, TooManyIDs, Undecided."""
        if not self._limits.make_named:
            raise NoSuchID(discovery_id)
        if self._others is not None:
            self._others.check_unknown()
        return self._fresh(discovery_id, version=0)

    def _register(self, record: Record, node: Node) -> Registration:
        limits = self._limits
        return records.register(record, node, now=self._now(), window_ms=limits.window_ms, max_nodes=limits.max_nodes)

    def _claim(self, record: Record, put: Put) -> Claim:
        version = self._versions.next()
        outcome = records.claim(record, put, version=version, now=self._now(), max_nodes=self._limits.max_nodes)
        return replace(outcome, record=replace(outcome.record, version=version)) if outcome.won else outcome

    def _check_room(self) -> None:
        if self._limits.max_ids is not None and self._store.count_all() >= self._limits.max_ids:
            raise TooManyIDs

    def _fresh(self, discovery_id: str, version: int) -> Record:
        self._check_room()
        if self._others is not None:
            self._others.minted(discovery_id)
        return Record(id=discovery_id, home=self._home, version=version, created_at=self._wall_us())

    def _check_home(self, record: Record) -> None:
        """Raise Orphaned where this daemon may not grant (R1, R7)."""
        if not self.is_home_of(record):
            raise Orphaned(record.id)

    def _own(self, record: Record) -> Record:
        """The record as this daemon's own; one that another minted, whose home is lost then, never grants (R7)."""
        if record.home == self._home:
            return record
        lost = self._others is None or self._others.is_lost(record.home)
        return records.succeed(record, self._home, version=record.version, lost=lost)

    async def _decidable(self, discovery_id: str) -> Record:
        """As `_decidable_if_any`. Raises NoSuchID."""
        record = await self._decidable_if_any(discovery_id)
        if record is None:
            raise self.unknown(discovery_id)
        return record

    async def _decidable_if_any(self, discovery_id: str) -> Record | None:
        """The newest record, once no grant is on its way: one decision at a time for each ID (R3)."""
        await self._grants.none_of(discovery_id)
        return self._newest(discovery_id)

    def _newest(self, discovery_id: str) -> Record | None:
        """The newest record, as this daemon may change it. Raises Undecided."""
        record = self._kept(discovery_id)
        # Nothing is on its way any more: what was pending was said, or nobody will ever know.
        return record if record is None or record.lost else records.said(record)

    def _kept(self, discovery_id: str) -> Record | None:
        """The same as it is kept under its version, here and at peers."""
        record = self._store.newest(discovery_id)
        if record is None:
            return None
        if self._others is not None:
            self._others.check(record)
        return self._own(record)

    async def _write(self, record: Record) -> None:
        """Return once the disk has the record, and a peer where one is up."""
        await self._journal.append(self._store.put(record))
        if self._others is not None:
            await self._others.witnessed(record.version, is_grant=False)

    async def _durably(self, before: Record, after: Record, version: int | None = None) -> Record:
        """Return the record once the disk has it, changed or not."""
        if after is not before:
            after = replace(after, version=self._versions.next() if version is None else version)
            await self._write(after)
        elif self._store.is_pending(after.id):
            await self._journal.barrier()
        return after

    async def _durably_as_it_is(self, record: Record | None) -> None:
        """Return once the disk has what an answer tells of the record (R6)."""
        if record is not None:
            await self._durably(record, record)

    async def _past_barrier(self, pending: PendingGrant) -> Record:
        """The newest record once all members have had their say. Raises Undecided."""
        assert self._others is not None
        try:
            if self._store.is_pending(pending.id):
                await self._journal.barrier()
            kept = self._kept(pending.id)
            assert kept is not None
            await self._others.barrier(kept)
            newest = self._newest(pending.id)
        except Exception:
            self._grants.end(pending)
            raise
        assert newest is not None
        return newest


def _only_heard(outcome: Registration, node: Node) -> Registration:
    """Send nobody to a node that may never have heard that it was to bootstrap, and never will. Raises Undecided."""
    listed = records.heard(outcome.record)
    if all(same_node(each.addr, node.addr) for each in listed):
        raise Undecided("its home was lost before it told the first node that it is alone, mint a new ID")
    return replace(outcome, listed=listed)


def _is_at(record: Record | None, index: int) -> bool:
    return record is not None and record.leader is not None and record.leader.modified == index
