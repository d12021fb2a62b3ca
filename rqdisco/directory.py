"""What every door calls: mint an ID, look one up, register a node under it, remove one.

The interface is narrow and asynchronous so that daemons elsewhere, or another engine altogether, can stand behind it.
Cancelling a call says that nobody will hear its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rqdisco import records
from rqdisco.errors import NoSuchID, Orphaned, StoreUnavailable, TooManyIDs
from rqdisco.identity import RandomBytes, mint
from rqdisco.journal.writer import Journal
from rqdisco.records import Moment, Node, Record, Registration
from rqdisco.store import Store


class Directory(Protocol):
    """Discovery IDs and the nodes registered under them. Every answer shows only what is durable."""

    async def create(self) -> Record:
        """Mint an ID. Raises TooManyIDs, StoreUnavailable."""

    async def look_up(self, discovery_id: str) -> Record:
        """The record of an ID. Raises NoSuchID."""

    async def register(self, discovery_id: str, node: Node) -> Registration:
        """Register a node, and say whom to list.

        A grant counts as said once the caller ran on to its next await: it sends the answer before that. Cancelled,
        the record is as if the call never came, or durably changed; a grant that nobody heard is revoked.
        Raises NoSuchID, TooManyNodes, Orphaned, StoreUnavailable.
        """

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        """Remove the registration of an address that is listed now, never a newer one (R9).

        Raises NoSuchID, StoreUnavailable.
        """


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a removal: the record after it, and whether there was anything to remove."""

    record: Record
    removed: bool


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator allows: the re-grant window in milliseconds, 0 for none, and how much may be held."""

    window_ms: int = 30_000
    max_ids: int | None = None
    max_nodes: int = 1000


class LocalDirectory:
    """The directory of one daemon, which is the home of every ID it minted (R1).

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
    ) -> None:
        self._store = store
        self._journal = journal
        self._home = home
        self._now = now
        self._wall_us = wall_us
        self._random = random
        self._limits = limits
        self._unheard: dict[str, _PendingGrant] = {}

    @property
    def size(self) -> int:
        """The number of IDs held."""
        return len(self._store)

    async def create(self) -> Record:
        if self._limits.max_ids is not None and self._store.count_all() >= self._limits.max_ids:
            raise TooManyIDs
        record = Record(
            id=mint(self._home, self._random),
            home=self._home,
            version=self._next_version(),
            created_at=self._wall_us(),
        )
        await self._journal.append(self._store.put(record))
        return record

    async def look_up(self, discovery_id: str) -> Record:
        record = self._store.settled(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        pending = self._unheard.get(discovery_id)
        # The disk has the grant already, but its node has not heard it and may never do.
        return pending.before if pending is not None and record.version > pending.before.version else record

    async def register(self, discovery_id: str, node: Node) -> Registration:
        record = await self._decidable(discovery_id)
        outcome = records.register(
            record,
            node,
            now=self._now(),
            window_ms=self._limits.window_ms,
            max_nodes=self._limits.max_nodes,
        )
        if outcome.alone is not None and record.home != self._home:
            raise Orphaned(discovery_id)
        if outcome.alone == "granted":
            return await self._grant(record, outcome)
        return replace(outcome, record=await self._durably(record, outcome.record))

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        pending = self._unheard.get(discovery_id)
        arrived = self._store.newest(discovery_id) if pending is None else pending.before
        record = await self._decidable(discovery_id)
        # R9: what was listed on arrival goes, and not what registered while we waited.
        if arrived is None or records.remove(arrived, addr) is arrived or records.is_newer(record, arrived, addr):
            return Removal(record=await self._durably(record, record), removed=False)
        after = records.remove(record, addr)
        return Removal(record=await self._durably(record, after), removed=after is not record)

    async def _decidable(self, discovery_id: str) -> Record:
        """The newest record, once no grant is on its way: one decision at a time for each ID (R3)."""
        while (pending := self._unheard.get(discovery_id)) is not None:
            settled = pending.settled()
            if pending.is_stuck:
                Deferred.fromCoroutine(self._revoke(pending))
            await settled
        record = self._store.newest(discovery_id)
        if record is None:
            raise NoSuchID(discovery_id)
        return record

    async def _durably(self, before: Record, after: Record) -> Record:
        """Return the record once the disk has it, changed or not."""
        if after is not before:
            after = replace(after, version=self._next_version())
            await self._journal.append(self._store.put(after))
        elif self._store.is_pending(after.id):
            await self._journal.barrier()
        return after

    async def _grant(self, before: Record, outcome: Registration) -> Registration:
        """Tell a node that it is alone, once that is durable; nothing else of the ID is decided until it is said."""
        self._unheard[before.id] = pending = _PendingGrant(before)
        told: Deferred[Registration] = Deferred()
        Deferred.fromCoroutine(self._settle_grant(outcome, pending, told))
        return await told

    async def _settle_grant(self, outcome: Registration, pending: _PendingGrant, told: Deferred[Registration]) -> None:
        """Goes on when the caller of `_grant` was cancelled, which is when `told` is called before its time."""
        try:
            record = await self._durably(pending.before, outcome.record)
        except Exception:
            self._end(pending)
            if not told.called:
                told.errback()
            return
        if told.called:
            await self._revoke(pending)
            return
        # The caller sends its answer in this very call; only then may others be decided.
        told.callback(replace(outcome, record=record))
        self._end(pending)

    async def _revoke(self, pending: _PendingGrant) -> None:
        """Nobody heard the grant: restore what the record said before it (R6).

        While the disk refuses that, those who wait are refused too, and the next one to come tries again.
        """
        pending.is_stuck = False
        before = pending.before
        try:
            await self._journal.append(self._store.put(replace(before, version=self._next_version())))
        except StoreUnavailable as error:
            self._log.warn("grant not revoked yet: {reason}", reason=error.reason, discovery_id=before.id)
            pending.refuse(error)
            return
        self._log.info("grant revoked, its client was gone", discovery_id=before.id)
        self._end(pending)

    def _end(self, pending: _PendingGrant) -> None:
        del self._unheard[pending.before.id]
        pending.settle()

    def _next_version(self) -> int:
        return max(self._store.last_version + 1, self._wall_us() // 1000)


class _PendingGrant:
    """A grant between its decision and its answer, and those who wait for it.

    It is stuck when its client is gone and the disk refused to revoke it.
    """

    def __init__(self, before: Record) -> None:
        self.before = before
        self.is_stuck = False
        self._waiting: list[Deferred[None]] = []

    def settled(self) -> Deferred[None]:
        """Fire when something else may be decided; fails with StoreUnavailable if that cannot be now."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def settle(self) -> None:
        for waiter in self._take_waiting():
            waiter.callback(None)

    def refuse(self, error: StoreUnavailable) -> None:
        self.is_stuck = True
        for waiter in self._take_waiting():
            waiter.errback(error)

    def _take_waiting(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, []
        return [waiter for waiter in waiting if not waiter.called]
