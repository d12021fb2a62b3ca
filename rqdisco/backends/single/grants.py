"""What happens between a grant's decision and its answer (R3, R6)."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from rqdisco.backends.single.coordinator import Coordinator
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.versions import Versions
from rqdisco.core import records
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Record
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal


class PendingGrant:
    """A grant between its decision and its answer, and those who wait for it.

    `before` is the record as it was, None as long as peers are being asked and nothing is decided
    yet. It is stuck when its client is gone and the disk refused to revoke it; `why` says why it is
    revoked.
    """

    def __init__(self, discovery_id: str, before: Record | None = None) -> None:
        self.id = discovery_id
        self.before = before
        self.is_stuck = False
        self.why = ""
        self._waiting: list[Deferred[None]] = []

    def settled(self) -> Deferred[None]:
        """Fire when something else may be decided; fails with StoreUnavailable if that cannot be
        now.
        """
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


class Grants:
    """Those on their way: nothing else of their IDs is decided until they are said or revoked, and
    until then the records are shown without them. `coordinator` are the peers, if there are any.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        journal: Journal,
        versions: Versions,
        subscriptions: Subscriptions,
        coordinator: Coordinator | None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._versions = versions
        self._subscriptions = subscriptions
        self._coordinator = coordinator
        self._pending: dict[str, PendingGrant] = {}

    @property
    def are_any(self) -> bool:
        """Whether any grant is on its way."""
        return bool(self._pending)

    def is_any_of(self, discovery_id: str) -> bool:
        """Whether one of the ID is on its way, decided or not."""
        return discovery_id in self._pending

    def is_decided_of(self, discovery_id: str) -> bool:
        """Whether one of the ID is decided, and not said yet."""
        pending = self._pending.get(discovery_id)
        return pending is not None and pending.before is not None

    def shown(self, discovery_id: str) -> Record | None:
        """The record as the disk has it, without a grant that may never be heard."""
        record, pending = self._store.settled(discovery_id), self._pending.get(discovery_id)
        if record is None or pending is None or pending.before is None or record.version <= pending.before.version:
            return record
        return pending.before

    def decided(self, discovery_id: str) -> Record | None:
        """The newest record, without a grant that may never be heard."""
        pending = self._pending.get(discovery_id)
        return self._store.newest(discovery_id) if pending is None or pending.before is None else pending.before

    async def none_of(self, discovery_id: str) -> None:
        """Return when no grant of the ID is on its way. Raises StoreUnavailable."""
        while (pending := self._pending.get(discovery_id)) is not None:
            settled = pending.settled()
            if pending.is_stuck:
                Deferred.fromCoroutine(self._revoke(pending))
            await settled

    def hold(self, discovery_id: str) -> PendingGrant:
        """Let nothing else of the ID be decided until the grant to come is said, or given up."""
        self._pending[discovery_id] = pending = PendingGrant(discovery_id)
        return pending

    def end(self, pending: PendingGrant) -> None:
        """It was said, or will not be: others may be decided."""
        del self._pending[pending.id]
        pending.settle()
        self._subscriptions.said(pending.id)

    async def tell(self, pending: PendingGrant, before: Record, granted: Record) -> Record:
        """The grant, once it is durable; the caller says it before its next await."""
        pending.before = before
        told: Deferred[Record] = Deferred()
        Deferred.fromCoroutine(self._settle(granted, pending, told))
        return await told

    async def settle(self) -> None:
        """Revoke what nobody heard and the disk would not let go of; the last chance before the
        end.
        """
        stuck = [pending for pending in self._pending.values() if pending.is_stuck]
        await gatherResults([Deferred.fromCoroutine(self._revoke(pending)) for pending in stuck])

    async def _settle(self, granted: Record, pending: PendingGrant, told: Deferred[Record]) -> None:
        """Goes on when the caller of `tell` was cancelled, which is when `told` is called before
        its time.
        """
        is_replicated = True
        try:
            if self._coordinator is None:
                await self._journal.append(self._store.put(granted))
            else:
                is_replicated = await self._write_unsaid(granted)
        except Exception:
            self.end(pending)
            if not told.called:
                told.errback()
            return
        if told.called or not is_replicated:
            pending.why = "its client was gone" if told.called else "no peer had it in time"
            await self._revoke(pending)
            if not told.called:
                told.errback(Undecided(pending.why))
            return
        # The caller sends its answer in this very call; only then may others be decided.
        told.callback(granted)
        if self._coordinator is not None:
            self._note_said(granted)
        self.end(pending)

    async def _write_unsaid(self, granted: Record) -> bool:
        """Make a grant durable as one that was not sent yet, here and at a peer; false where no
        peer has it in time.
        """
        assert self._coordinator is not None
        assert granted.grant is not None
        await self._journal.append(self._store.put(replace(granted, grant=replace(granted.grant, pending=True))))
        return await self._coordinator.replicated(granted.version, is_grant=True)

    def _note_said(self, granted: Record) -> None:
        """Peers may send others to the node from now on. Nobody waits for that."""
        try:
            writing = self._journal.append(self._store.put(replace(granted, version=self._versions.next())))
        except StoreUnavailable:
            return
        writing.addErrback(lambda failure: failure.trap(StoreUnavailable))

    async def _revoke(self, pending: PendingGrant) -> None:
        """Nobody heard the grant: restore what the record said before it (R6).

        While the disk refuses that, those who wait are refused too, and the next one to come tries
        again.
        """
        pending.is_stuck = False
        before = pending.before
        assert before is not None
        try:
            restored = replace(records.revoked(before), version=self._versions.next())
            await self._journal.append(self._store.put(restored))
        except StoreUnavailable as error:
            self._log.warn("grant not revoked yet: {reason}", reason=error.reason, discovery_id=before.id)
            pending.refuse(error)
            return
        self._log.info("grant revoked, {why}", why=pending.why, discovery_id=before.id)
        self.end(pending)
