"""The services of a daemon whose records are in etcd."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rqdisco.backends.etcd.assembly import EtcdBackend
from rqdisco.backends.etcd.last_seen import LastSeen, LastSeenFile
from rqdisco.backends.etcd.monitor import EtcdMonitor
from rqdisco.backends.etcd.transport.interfaces import PostTransport

SAVE_SECONDS = 10.0


class LastSeenSaver(Service):
    """Saves `etcd.json` on request, every ten seconds, and when it stops. `current` returns what to
    save, None while nothing is known; `run_in_thread` runs a blocking call.
    """

    _log = Logger()

    def __init__(
        self,
        file: LastSeenFile,
        current: Callable[[], LastSeen | None],
        run_in_thread: Callable[[Callable[[], None]], Deferred[None]],
        clock: IReactorTime,
    ) -> None:
        self._file = file
        self._current = current
        self._run_in_thread = run_in_thread
        self._saved: LastSeen | None = None
        self._saving = LoopingCall(self.save)
        self._saving.clock = clock

    def startService(self) -> None:
        super().startService()
        self._saving.start(SAVE_SECONDS, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._saving.stop()
        return self.save()

    def save(self) -> Deferred[None]:
        """Save what is known now; fire once that is saved, or cannot be."""
        return Deferred.fromCoroutine(self._save_current())

    async def _save_current(self) -> None:
        current = self._current()
        if current is None or current == self._saved:
            return
        try:
            await self._run_in_thread(lambda: self._file.save(current))
            self._saved = current
        except (OSError, RuntimeError) as error:
            # RuntimeError: the system has no more threads for this user.
            self._log.error("what was seen of etcd cannot be saved: {reason}", reason=str(error))


class EtcdBackendService(Service):
    """Runs the monitor, and `memory` if there is a state directory. On stop, finishes or revokes
    grants before it closes the connections.
    """

    def __init__(
        self, backend: EtcdBackend, monitor: EtcdMonitor, transport: PostTransport, memory: LastSeenSaver | None
    ) -> None:
        self._backend = backend
        self._monitor = monitor
        self._transport = transport
        self._memory = memory

    def startService(self) -> None:
        super().startService()
        self._monitor.startService()
        if self._memory is not None:
            self._memory.startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._monitor.stopService()
        await self._backend.stop()
        if self._memory is not None:
            await maybeDeferred(self._memory.stopService)
        self._transport.close()
