"""Limits repeated log lines, so that no client can fill the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

LOG_INTERVAL_SECONDS = 60.0
MAX_SOURCES = 1000


class LogThrottle:
    """Allows one log line per source and minute. `now` returns seconds of a monotonic clock.

    It remembers the 1000 sources logged last; one that is forgotten may be logged again at once.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._logged_at: OrderedDict[str, float] = OrderedDict()

    def is_due(self, source: str = "") -> bool:
        """Report whether nothing was logged about `source` for a minute. If so, count it as logged
        now.
        """
        now, logged_at = self._now(), self._logged_at.get(source)
        if logged_at is not None and now - logged_at < LOG_INTERVAL_SECONDS:
            return False
        self._logged_at[source] = now
        self._logged_at.move_to_end(source)
        if len(self._logged_at) > MAX_SOURCES:
            self._logged_at.popitem(last=False)
        return True
