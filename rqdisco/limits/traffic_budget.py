"""Divides a rate of bytes fairly among those who send."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class TrafficBudget:
    """Tells each sender how long to pause so that all together send no more than `rate` bytes a
    second. `now` returns seconds of a monotonic clock.

    Senders that pause share the rate. Half of it is divided equally by bytes, so a small sender
    hardly waits; half equally by events, so a large sender is not starved by many small ones. Each
    sender pauses for the shorter of the two times.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._half = rate / 2
        self._now = now
        # The end of each sender's pause, and the bytes that it sent before.
        self._pauses: dict[str, tuple[float, int]] = {}
        self._ends: list[tuple[float, str]] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of senders that pause."""
        self._forget(self._now())
        return len(self._pauses)

    def pause(self, sender: str, size: int, least: float) -> float:
        """Count `size` bytes; return the seconds to pause before the next ones, `least` or more."""
        now = self._now()
        self._forget(now)
        before, more = self._pauses.pop(sender, (now, 0))
        count, total = len(self._pauses) + 1, self._bytes + size
        seconds = max(least, min(size * count, total) / self._half)
        # What was sent before the end of the last pause is not forgotten.
        end = max(before, now) + seconds
        self._bytes = total
        self._pauses[sender] = end, size + more
        heapq.heappush(self._ends, (end, sender))
        return end - now

    def _forget(self, now: float) -> None:
        """Remove the pauses that are over."""
        while self._ends and self._ends[0][0] <= now:
            end, sender = heapq.heappop(self._ends)
            if sender in self._pauses and self._pauses[sender][0] == end:
                self._bytes -= self._pauses.pop(sender)[1]
