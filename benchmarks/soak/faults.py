"""The faults of a soak, and their times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.soak.cluster import Cluster

DOWN_SECONDS = 3.0
STOPPED_SECONDS = 6.0
FULL_SECONDS = 12.0
# After a fault peers have to find each other, and to send the missed changes.
RECOVERY_SECONDS = 8.0
_MINUTE = 60.0


class Window(NamedTuple):
    """A fault, with the time that it takes to recover from it."""

    what: str
    begin: float
    end: float


class Fault(NamedTuple):
    """Something that is done at a moment, and undone `seconds` later."""

    at: float
    what: str
    seconds: float
    do: Callable[[], None]
    undo: Callable[[], None]


class Faults:
    """All faults of a soak of this length; at most one is active at a time."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self.windows: list[Window] = []
        self._on: str | None = None
        self._calm_from = 0.0
        minutes = max(1, int(seconds / _MINUTE))
        self._faults = [self._kill(cluster, "bc"[number % 2], (number + 0.2) * _MINUTE) for number in range(minutes)]
        between = (int(minutes * 0.4) + 0.5) * _MINUTE
        self._faults.append(
            Fault(between, "a stopped", STOPPED_SECONDS, lambda: cluster.stop("a"), lambda: cluster.resume("a"))
        )
        if cluster.small is not None:
            at = (int(minutes * 0.7) + (0.5 if minutes > 2 else 0.75)) * _MINUTE
            self._faults.append(
                Fault(at, f"{cluster.small}'s disk full", FULL_SECONDS, cluster.fill, cluster.make_room)
            )
        self._faults.sort(key=lambda fault: fault.at)

    @staticmethod
    def _kill(cluster: Cluster, name: str, at: float) -> Fault:
        return Fault(at, f"{name} killed", DOWN_SECONDS, lambda: cluster.kill(name), lambda: cluster.restart(name))

    def is_calm(self) -> bool:
        """Report whether no fault is active, nor was until a moment ago."""
        return self._on is None and time.monotonic() >= self._calm_from

    def run(self, begun: float, wait: Callable[[float], None], log: Callable[[str], None]) -> None:
        """Apply all of them; `wait` returns at a given moment."""
        for fault in self._faults:
            wait(begun + fault.at)
            begin = time.monotonic()
            self._on = fault.what
            log(f"{begin - begun:6.1f} s: {fault.what}")
            fault.do()
            wait(begin + fault.seconds)
            fault.undo()
            end = time.monotonic() + RECOVERY_SECONDS
            log(f"{end - RECOVERY_SECONDS - begun:6.1f} s: mended")
            self._calm_from = end
            self._on = None
            self.windows.append(Window(fault.what, begin, end))
