"""Keep the snapshot fresh: seal and compact the journal periodically."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.storage.wal.writer import Journal

_STOPPING = "the daemon is stopping"
_FAILED = "no snapshot can be made, see the log"

RunCompaction = Callable[[int], "Deferred[tuple[int, bytes]]"]


class Compactor(Service):
    """A service that compacts changes every `interval` seconds, one compaction at a time.

    `run_compaction` compacts up to a segment in a child process, and fires with its exit status and
    output; cancelling it kills the process. `changed` tells whether there are segments that are not
    in the snapshot yet.

    `lasted` is the duration of the last compaction in seconds, `outcomes` counts how they ended.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, journal: Journal, run_compaction: RunCompaction, interval: float, *, changed: bool
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._run_compaction = run_compaction
        self._changed = changed
        self._compacted_bytes = 0
        self.interval = interval
        self._complete_at = clock.seconds()
        self.lasted: float | None = None
        self.outcomes: Counter[str] = Counter()
        self._loop: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def age(self) -> float:
        """Seconds since the snapshot last held all records."""
        return self._clock.seconds() - self._complete_at

    def startService(self) -> None:
        super().startService()
        self._loop = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        loop, self._loop = self._loop, None
        if loop is None:
            return None
        loop.cancel()
        waiting, self._waiting = self._waiting, []
        _release(waiting, _STOPPING)
        return loop.addErrback(_ignore_cancelled)

    def compact_now(self) -> Deferred[None]:
        """Fire once the snapshot has every change that is durable now. Fails with
        StoreUnavailable.
        """
        if self._loop is None:
            raise StoreUnavailable(_STOPPING)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        self._wake()
        return waiter

    async def _run(self) -> None:
        while True:
            await self._sleep()
            # Those that arrive during a compaction wait for the next one.
            waiting, self._waiting = self._waiting, []
            try:
                refusal = await self._compact_changes()
            except CancelledError:
                _release(waiting, _STOPPING)
                raise
            except Exception:
                self.outcomes["failed"] += 1
                self._log.failure("snapshot failed")
                refusal = _FAILED
            _release(waiting, refusal)

    async def _sleep(self) -> None:
        """Return after the interval, or once a compaction is requested."""
        if self._waiting:
            return
        pause: Deferred[None] = Deferred()
        self._pause = pause
        timer = self._clock.callLater(self.interval, self._wake)
        try:
            await pause
        finally:
            self._pause = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        if (pause := self._pause) is not None:
            self._pause = None
            pause.callback(None)

    async def _compact_changes(self) -> str | None:
        """Make a snapshot if anything changed; return why there is none, None if there is."""
        written, since = self._journal.bytes_written, self._clock.seconds()
        if not self._changed and written == self._compacted_bytes:
            self._complete_at = since
            return None
        through = await self._journal.seal()
        status, output = await self._run_compaction(through)
        if status != 0:
            self.outcomes["failed"] += 1
            self._log.warn("snapshot failed: {why}", why=output.decode(errors="replace").strip()[-500:])
            return _FAILED
        self._changed, self._compacted_bytes = False, written
        self._complete_at, self.lasted = since, self._clock.seconds() - since
        self.outcomes["written"] += 1
        self._log.info("snapshot written", records=int(output), segment=through)
        return None


def _release(waiting: Sequence[Deferred[None]], refusal: str | None) -> None:
    """Fire all that were not cancelled; with StoreUnavailable if there is a `refusal`."""
    for waiter in waiting:
        if waiter.called:
            continue
        if refusal is None:
            waiter.callback(None)
        else:
            waiter.errback(StoreUnavailable(refusal))


def _ignore_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
