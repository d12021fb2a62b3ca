"""The running daemon: what starts in which order, and how it ends without losing what it was
told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.errors import CannotListen
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.service.listeners import Listener
from rqdisco.service.systemd import Notifier
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.health import Health


class Daemon(Service):
    """Opens every door once all else is up; stops by letting what is in flight finish, then
    flushes.

    `refuse` ends the process with the reason why it cannot start; `finish` lets go of what is not a
    service; `peers` keeps up with those, if there are any, `aside` is whatever else runs as long as
    all this does; `drain_timeout` is for how many seconds it serves on when it is to stop.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        listeners: Sequence[Listener],
        deadlines: Deadlines,
        directory: SingleDirectory,
        journal: Journal,
        health: Health,
        compactor: Compactor,
        notifier: Notifier,
        refuse: Callable[[CannotListen], None],
        finish: Callable[[], None],
        peers: Service | None = None,
        aside: Service | None = None,
        *,
        drain_timeout: float = 0.0,
    ) -> None:
        self._clock = clock
        self._listeners = listeners
        self._deadlines = deadlines
        self._directory = directory
        self._journal = journal
        self._health = health
        self._compactor = compactor
        self._notifier = notifier
        self._refuse = refuse
        self._finish = finish
        self._peers = peers
        self._drain_timeout = drain_timeout
        self._aside = Service() if aside is None else aside
        self._is_open = False
        self._listening: Deferred[Any] | None = None

    def privilegedStartService(self) -> None:
        """Bind, while ports below 1024 may still be allowed."""
        refusals: list[CannotListen] = []
        self._listening = Deferred.fromCoroutine(self._listen())
        self._listening.addErrback(_collect, refusals)
        if refusals:
            self._refuse(refusals[0])
        self._listening.addCallback(lambda _: [self._refuse(refusal) for refusal in refusals])

    def startService(self) -> None:
        super().startService()
        if self._listening is None:
            self.privilegedStartService()
        assert self._listening is not None
        self._compactor.startService()
        self._aside.startService()
        if self._peers is not None:
            self._peers.startService()
        # Signals are taken once the reactor runs; whoever is told READY before that could end us
        # without a flush.
        self._listening.addCallback(lambda _: self._clock.callLater(0, self._ready))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _listen(self) -> None:
        where = {listener.name: await listener.open() for listener in self._listeners}
        self._is_open = True
        self._log.info("listening", **where)

    def _ready(self) -> None:
        if self.running and self._is_open:
            self._notifier.startService()

    async def _stop(self) -> None:
        self._health.stop()
        self._notifier.stopService()
        if self._drain_timeout and self._is_open:
            # Balancers find out that it is not ready, and send nobody any more.
            self._log.info("stopping, but first serving on", seconds=self._drain_timeout)
            await deferLater(self._clock, self._drain_timeout)
        await gatherResults([Deferred.fromCoroutine(listener.close()) for listener in self._listeners])
        self._deadlines.stop()
        await self._directory.revoke_stuck()
        if self._peers is not None:
            await maybeDeferred(self._peers.stopService)
        await maybeDeferred(self._compactor.stopService)
        await self._journal.close()
        await maybeDeferred(self._aside.stopService)
        self._finish()


def _collect(failure: Failure, refusals: list[CannotListen]) -> None:
    failure.trap(CannotListen)
    assert isinstance(failure.value, CannotListen)
    refusals.append(failure.value)
