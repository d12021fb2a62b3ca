"""What is written down of each source now and then, and how much was left out, so that nobody can
fill a disk.
"""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.limits.rates import Buckets

_EACH, _EACH_AT_ONCE = 1.0, 10.0
_GROUP, _GROUP_AT_ONCE = 5.0, 50.0


class EventSampler:
    """Lets through one thing a second of each source, and ten at once; of all sources of a group
    five, and fifty.

    `now` gives the seconds of a clock that never steps. `left_out` counts what was not let through
    since something was.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._each = Buckets(_EACH, _EACH_AT_ONCE, now)
        self._groups = Buckets(_GROUP, _GROUP_AT_ONCE, now)
        self._left_out = 0

    def sample(self, source: str, group: str) -> int | None:
        """How many were left out before this one; None if it is one of them."""
        # A source that asks too much takes nothing from the others of its group.
        if self._each.take(f"{group} {source}") or self._groups.take(group):
            self._left_out += 1
            return None
        before, self._left_out = self._left_out, 0
        return before
