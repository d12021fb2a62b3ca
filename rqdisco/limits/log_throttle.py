"""What is said of each source at most once in a while, so that nobody can fill the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_SECONDS = 60.0
_MOST_SOURCES = 1000


class LogThrottle:
    """Remembers whom something was said of; `now` gives the seconds of a clock that never steps."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: OrderedDict[str, float] = OrderedDict()

    def is_due(self, source: str) -> bool:
        """Whether nothing was said of `source` for a minute. If so, it counts as said now."""
        now = self._now()
        if now - self._last.get(source, now - _SECONDS) < _SECONDS:
            return False
        self._last[source] = now
        self._last.move_to_end(source)
        if len(self._last) > _MOST_SOURCES:
            self._last.popitem(last=False)
        return True
