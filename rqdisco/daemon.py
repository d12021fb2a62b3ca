"""The running daemon: what starts in which order, and how it ends without losing what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.errors import CannotListen
from rqdisco.journal.folder import Folder
from rqdisco.journal.writer import Journal
from rqdisco.systemd import Notifier
from rqdisco.web.deadlines import Deadlines
from rqdisco.web.site import BoundedSite

DRAIN_SECONDS = 5.0


class Daemon(Service):
    """Listens on every endpoint once all else is up; stops by letting what is in flight finish, then flushes.

    `refuse` ends the process with the reason why it cannot start; `finish` lets go of what is not a service.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        site: BoundedSite,
        deadlines: Deadlines,
        journal: Journal,
        folder: Folder,
        notifier: Notifier,
        refuse: Callable[[CannotListen], None],
        finish: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._site = site
        self._deadlines = deadlines
        self._journal = journal
        self._folder = folder
        self._notifier = notifier
        self._refuse = refuse
        self._finish = finish
        self._ports: list[IListeningPort] = []
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
        self._folder.startService()
        # Signals are taken once the reactor runs; whoever is told READY before that could end us without a flush.
        self._listening.addCallback(lambda _: self._clock.callLater(0, self._ready))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _listen(self) -> None:
        for description, endpoint in self._endpoints:
            try:
                self._ports.append(await endpoint.listen(self._site))
            except CannotListenError as error:
                raise CannotListen(f"cannot listen on {description}: {_reason(error)}") from error
            except Exception as error:
                # Endpoints raise what they like: over a port out of range, a file that is missing, ...
                raise CannotListen(f"cannot listen on {description}: {error}") from error
        self._log.info("listening", endpoints=[_in_words(port.getHost()) for port in self._ports])

    def _ready(self) -> None:
        if self.running and self._ports:
            self._notifier.startService()

    async def _stop(self) -> None:
        self._notifier.stopService()
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        try:
            await self._site.drain().addTimeout(DRAIN_SECONDS, self._clock)
        except defer.TimeoutError:
            self._log.warn("some requests are left unanswered", connections=len(self._site.channels))
            self._site.abort_connections()
        self._deadlines.stop()
        await maybeDeferred(self._folder.stopService)
        await self._journal.close()
        self._finish()


def _in_words(address: Any) -> str:
    return f"{address.host}:{address.port}" if hasattr(address, "port") else f"unix:{address.name.decode()}"


def _collect(failure: Failure, refusals: list[CannotListen]) -> None:
    failure.trap(CannotListen)
    assert isinstance(failure.value, CannotListen)
    refusals.append(failure.value)


def _reason(error: CannotListenError) -> str:
    return getattr(error.socketError, "strerror", None) or str(error.socketError)
