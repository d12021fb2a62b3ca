"""Counts the clusters of a daemon by their health, in slices that no request notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger

from rqdisco.core.directory import Directory
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.verdicts import Health, Verdict
from rqdisco.core.views import View
from rqdisco.coroutines import LoopService

INTERVAL_SECONDS = 30.0
# Of stateless daemons, each of which reads all records from etcd for it.
INTERVAL_OVER_ETCD_SECONDS = 300.0
# A round takes at most a fifth of the time, however many IDs there are.
_REST = 4
# About half a millisecond of work in each turn of the reactor: 100,000 IDs take some 20 s. While the
# reactor is busy, which late timers show, the pauses are longer, so that requests get the time.
_JUDGED_AT_ONCE = 25
_PAUSE_SECONDS = 0.005
_PAUSE_PER_SECOND_LATE = 4
_LONGEST_PAUSE_SECONDS = 0.05


class HealthCounter(LoopService):
    """Judges all IDs of `directory` every `interval` seconds, or less often if there are many.

    `counts` has the number of IDs by health at the last round, None before the first has ended.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Directory,
        judge: Callable[[View], Verdict],
        clock: IReactorTime,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._directory = directory
        self._judge = judge
        self._clock = clock
        self._interval = interval
        self.counts: Counter[Health] | None = None

    async def run(self) -> None:
        while self.running:
            start = self._clock.seconds()
            try:
                await self._count()
            except CancelledError:
                return
            except StoreUnavailable as error:
                self._log.debug("clusters were not counted: {reason}", reason=error.reason)
            except Exception:
                self._log.failure("clusters could not be counted")
            if not self.running:
                # A store may answer the cancellation with another error.
                return
            try:
                await self._sleep(max(self._interval, _REST * (self._clock.seconds() - start)))
            except CancelledError:
                return

    async def _count(self) -> None:
        """Judge all IDs once. Raises StoreUnavailable."""
        counts: Counter[Health] = Counter()
        pause = _PAUSE_SECONDS
        async for page in self._directory.records():
            for start in range(0, len(page), _JUDGED_AT_ONCE):
                for record in page[start : start + _JUDGED_AT_ONCE]:
                    counts[self._judge(self._directory.view(record)).health] += 1
                due = self._clock.seconds() + pause
                await self._sleep(pause)
                late = self._clock.seconds() - due
                pause = min(_PAUSE_SECONDS + _PAUSE_PER_SECOND_LATE * late, _LONGEST_PAUSE_SECONDS)
        self.counts = counts

    async def _sleep(self, seconds: float) -> None:
        # deferLater takes any IReactorTime, but its annotation names implementations.
        await deferLater(cast("Clock", self._clock), seconds)
