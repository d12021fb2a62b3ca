"""Samples events by source, so that no client can fill the disk.

Unlike a LogThrottle it admits short bursts, bounds the total of a group of sources, and counts the
events it drops: a reader of the audit log sees how many are missing.
"""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.limits.rates import Buckets

_SOURCE_RATE, _SOURCE_BURST = 1.0, 10.0
_GROUP_RATE, _GROUP_BURST = 5.0, 50.0


class EventSampler:
    """Admits one event a second from each source, with bursts of ten, and five a second from each
    group of sources, with bursts of fifty. `now` returns seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._sources = Buckets(_SOURCE_RATE, _SOURCE_BURST, now)
        self._groups = Buckets(_GROUP_RATE, _GROUP_BURST, now)
        self._dropped = 0

    def sample(self, source: str, group: str) -> int | None:
        """Return the number of events dropped since the last one admitted; None if this one is
        dropped.
        """
        # A source over its rate takes nothing from the others of its group.
        if self._sources.take(f"{group} {source}") or self._groups.take(group):
            self._dropped += 1
            return None
        dropped, self._dropped = self._dropped, 0
        return dropped
