"""Count the recovered records in small steps, while requests are served."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rqdisco.storage.node_counter import NodeCounter

# Half a millisecond of work in each turn of the reactor: a million records take some ten seconds.
RECORDS_AT_ONCE = 1000
_PAUSE = 0.01


class InitialCount(Service):
    """Runs the steps of a node counter one by one."""

    def __init__(self, clock: IReactorTime, node_counter: NodeCounter) -> None:
        self._clock = clock
        self._steps: Iterator[None] = node_counter.steps(RECORDS_AT_ONCE)
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._step()

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self) -> None:
        is_over = next(self._steps, self) is self
        self._timer = None if is_over else self._clock.callLater(_PAUSE, self._step)
