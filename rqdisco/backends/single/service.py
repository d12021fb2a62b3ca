"""The service of a backend with a state directory: stops without losing anything acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred

from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal


class StoredBackendService(Service):
    """Runs the snapshots, and the contact with `peers` if there are any. On stop, calls
    `revoke_stuck` to revoke grants whose requests have ended, then flushes the write-ahead log.
    """

    def __init__(
        self,
        revoke_stuck: Callable[[], Coroutine[Any, Any, None]],
        journal: Journal,
        compactor: Compactor,
        peers: Service | None,
    ) -> None:
        self._revoke_stuck = revoke_stuck
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
        await self._revoke_stuck()
        if self._peers is not None:
            await maybeDeferred(self._peers.stopService)
        await maybeDeferred(self._compactor.stopService)
        await self._journal.close()
