"""The running daemon: starts its parts in order, and stops without losing anything it
acknowledged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import CannotListen, CannotStart
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.service.listeners import Listener
from rqdisco.service.system import Announce
from rqdisco.service.systemd import Notifier
from rqdisco.telemetry.health import DaemonHealth


class DaemonParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that a daemon starts and stops.

    `backend` stops once no request is in progress. `check` raises CannotStart if the daemon cannot
    run after all; it is ready once that has returned. `background` groups the services that run for as
    long as the daemon. `stop_threads` waits for the worker threads; it is called last. `announce`
    receives the addresses of the listeners once all of them are open.
    """

    listeners: Sequence[Listener]
    deadlines: Deadlines
    health: DaemonHealth
    backend: Service
    check: Callable[[], Awaitable[None]]
    notifier: Notifier
    background: Service
    stop_threads: Callable[[], None]
    announce: Announce


class Daemon(Service):
    """Opens the listeners after everything else runs; on stop, finishes requests in flight before
    it stops the backend.

    `refuse` ends the process if a listener cannot be opened or the check fails. The daemon serves for `drain_timeout`
    more seconds after it is asked to stop.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        parts: DaemonParts,
        refuse: Callable[[CannotStart], None],
        *,
        drain_timeout: float = 0.0,
    ) -> None:
        self._clock = clock
        self._parts = parts
        self._refuse = refuse
        self._drain_timeout = drain_timeout
        self._is_open = False
        self._listening: Deferred[Any] | None = None
        self._checking: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Bind while ports below 1024 may still be allowed."""
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
        self._parts.background.startService()
        self._parts.backend.startService()
        # Signals are handled once the reactor runs; READY before that would allow a signal that
        # ends the process without a flush.
        self._listening.addCallback(lambda _: self._clock.callLater(0, self._check))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _listen(self) -> None:
        addresses = {listener.name: await listener.open() for listener in self._parts.listeners}
        self._is_open = True
        self._log.info("listening", **addresses)
        self._parts.announce(addresses)

    def _check(self) -> None:
        if self.running and self._is_open:
            self._checking = Deferred.fromCoroutine(self._become_ready())
            self._checking.addErrback(self._fail)

    async def _become_ready(self) -> None:
        try:
            await self._parts.check()
        except CannotStart as refusal:
            self._refuse(refusal)
            return
        if self.running:
            self._parts.notifier.startService()

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("the check at the start failed", failure)

    async def _stop(self) -> None:
        parts = self._parts
        parts.health.stop()
        if self._checking is not None:
            self._checking.cancel()
        parts.notifier.stopService()
        if self._drain_timeout and self._is_open:
            # Load balancers see that /readyz fails, and send no more requests.
            self._log.info("draining before stop", seconds=self._drain_timeout)
            await deferLater(self._clock, self._drain_timeout)
        await gatherResults([Deferred.fromCoroutine(listener.close()) for listener in parts.listeners])
        parts.deadlines.stop()
        await maybeDeferred(parts.backend.stopService)
        await maybeDeferred(parts.background.stopService)
        parts.stop_threads()


def _collect(failure: Failure, refusals: list[CannotListen]) -> None:
    failure.trap(CannotListen)
    assert isinstance(failure.value, CannotListen)
    refusals.append(failure.value)
