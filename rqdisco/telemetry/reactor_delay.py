"""Measures how long events wait for the reactor: a call that takes long delays the next timer."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rqdisco.telemetry.counters import Histogram

INTERVAL = 0.1
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ReactorDelayMonitor(Service):
    """Sets a timer ten times a second and measures by how many seconds it is late.

    A LoopingCall skips the intervals it missed, so that a stall of a second would look like one of
    100 ms.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self.late = Histogram(_BOUNDS)

    def startService(self) -> None:
        super().startService()
        self._set()

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._ring)

    def _ring(self) -> None:
        self.late.observe(max(0.0, self._clock.seconds() - self._due))
        self._set()
