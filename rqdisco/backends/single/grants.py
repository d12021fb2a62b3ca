"""A grant between its decision and its answer (R3, R6)."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.versions import Versions
from rqdisco.core import records
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Record
from rqdisco.coroutines import HoldableResult, run_in_background
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal


class PendingGrant:
    """A grant that is not answered yet, and the requests that wait for it.

    `before` is the record before the grant. The grant is stuck if it must be revoked and the disk
    refused that.
    """

    def __init__(self, before: Record) -> None:
        self.id = before.id
        self.before = before
        self.is_stuck = False
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Fire at the end of the grant; fail with StoreUnavailable while it is stuck."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def release(self) -> None:
        """Let the waiting requests continue."""
        for waiter in self._take_waiting():
            waiter.callback(None)

    def stick(self, error: StoreUnavailable) -> None:
        """Fail the waiting requests."""
        self.is_stuck = True
        for waiter in self._take_waiting():
            waiter.errback(error)

    def _take_waiting(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, []
        return [waiter for waiter in waiting if not waiter.called]


class Grants:
    """Pending grants. Until one is answered or revoked, nothing else is decided about its ID, and
    the record is shown without it. `pending` holds them by ID.
    """

    _log = Logger()

    def __init__(self, store: Store, journal: Journal, versions: Versions, subscriptions: Subscriptions) -> None:
        self._store = store
        self._journal = journal
        self._versions = versions
        self._subscriptions = subscriptions
        self.pending: dict[str, PendingGrant] = {}

    def shown(self, discovery_id: str) -> Record | None:
        """Return the record on the disk, without a pending grant."""
        record, pending = self._store.settled(discovery_id), self.pending.get(discovery_id)
        if record is None or pending is None or record.version <= pending.before.version:
            return record
        return pending.before

    def newest(self, discovery_id: str) -> Record | None:
        """Return the newest record, without a pending grant."""
        pending = self.pending.get(discovery_id)
        return self._store.newest(discovery_id) if pending is None else pending.before

    async def finished(self, discovery_id: str) -> None:
        """Return when no grant of the ID is pending. Raises StoreUnavailable."""
        while (pending := self.pending.get(discovery_id)) is not None:
            waiting = pending.wait()
            if pending.is_stuck:
                Deferred.fromCoroutine(self._revoke(pending))
            await waiting

    async def commit(self, before: Record, granted: Record) -> Record:
        """Return the granted record once it is durable; the caller answers before its next
        await. No other decisions about the ID are made until then.
        """
        self.pending[before.id] = pending = PendingGrant(before)
        answer: HoldableResult[Record] = HoldableResult()
        run_in_background(self._commit(granted, pending, answer))
        return await answer

    async def revoke_stuck(self) -> None:
        """Try once more to revoke the grants that are stuck, before the daemon ends."""
        stuck = [pending for pending in self.pending.values() if pending.is_stuck]
        await gatherResults([Deferred.fromCoroutine(self._revoke(pending)) for pending in stuck])

    async def _commit(self, granted: Record, pending: PendingGrant, answer: HoldableResult[Record]) -> None:
        """Continues if the caller of `commit` is cancelled, which fires `answer`."""
        try:
            await self._journal.append(self._store.put(granted))
        except Exception:
            self._end(pending)
            if not answer.called:
                answer.errback()
            return
        if answer.held is not None:
            await answer.held
        if answer.called:
            await self._revoke(pending)
            return
        # The caller sends its answer in this very call; only then may others be decided.
        answer.callback(granted)
        self._end(pending)

    def _end(self, pending: PendingGrant) -> None:
        """Allow other decisions: the grant is answered or given up."""
        del self.pending[pending.id]
        pending.release()
        self._subscriptions.notify(pending.id)

    async def _revoke(self, pending: PendingGrant) -> None:
        """Restore the record before a grant that was not answered (R6).

        If the disk refuses, the waiting requests fail, and the next request tries again.
        """
        pending.is_stuck = False
        before = pending.before
        try:
            restored = replace(records.with_grant_revoked(before), version=self._versions.next())
            await self._journal.append(self._store.put(restored))
        except StoreUnavailable as error:
            self._log.warn("grant not revoked yet: {reason}", reason=error.reason, discovery_id=before.id)
            pending.stick(error)
            return
        self._log.info("grant revoked, {why}", why="its client was gone", discovery_id=before.id)
        self._end(pending)
