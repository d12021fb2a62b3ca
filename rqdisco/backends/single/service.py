"""The service of a backend with a state directory: stops without losing anything acknowledged."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred

from rqdisco.backends.single.grants import Grants
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal


class StoredBackendService(Service):
    """Runs the snapshots, and the contact with `peers` if there are any. On stop, revokes grants
    whose requests have ended, then flushes the write-ahead log.
    """

    def __init__(self, grants: Grants, journal: Journal, compactor: Compactor, peers: Service | None) -> None:
        self._grants = grants
        self._journal = journal
        self._compactor = compactor
        self._peers = peers

    def startService(self) -> None:
        super().startService()
        self._compactor.startService()
        if self._peers is not None:
            self._peers.startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._grants.revoke_stuck()
        if self._peers is not None:
            await maybeDeferred(self._peers.stopService)
        await maybeDeferred(self._compactor.stopService)
        await self._journal.close()
