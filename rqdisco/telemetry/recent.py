"""Recent activity for the status page: counts of the last hour, and the last changes; in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from rqdisco.telemetry.events import ON_BEHALF, Event

MINUTES = 60
MOST_CHANGES = 40
CREATED, REGISTERED, GRANTED = "created", "registered", "granted"
_COUNTED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("create", "created"): (CREATED,),
    ("registration", "granted"): (REGISTERED, GRANTED),
    ("registration", "again"): (REGISTERED,),
    ("registration", "listed"): (REGISTERED,),
    ("registration", ON_BEHALF): (REGISTERED,),
    ("claim", "granted"): (GRANTED,),
}


class RecentChange(msgspec.Struct, frozen=True, gc=False):
    """An event, and when it was published, in microseconds since 1970."""

    at: int
    event: Event


class RecentActivity:
    """An observer of events. `now` returns seconds of a monotonic clock, `wall_us` the wall clock
    in microseconds since 1970.
    """

    def __init__(self, now: Callable[[], float], wall_us: Callable[[], int]) -> None:
        self._now = now
        self._wall_us = wall_us
        self._minute = int(now() // 60)
        self._ends = 60.0 * (self._minute + 1)
        self._counts = {name: deque([0] * MINUTES, MINUTES) for name in (CREATED, REGISTERED, GRANTED)}
        self._changes: deque[RecentChange] = deque(maxlen=MOST_CHANGES)

    def __call__(self, event: Event) -> None:
        names = _COUNTED.get((event.kind, event.outcome))
        if names is not None:
            self._roll_over()
            for name in names:
                self._counts[name][-1] += 1
        # Expiries come in thousands and would hide everything else.
        if event.audited and event.counted and event.kind != "expiry":
            self._changes.append(RecentChange(self._wall_us(), event))

    def minutes(self, name: str) -> Sequence[int]:
        """Return the counts of the last 60 minutes, the current one last."""
        self._roll_over()
        return tuple(self._counts[name])

    @property
    def changes(self) -> Sequence[RecentChange]:
        """Return the last attempts to change something, the newest first."""
        return tuple(reversed(self._changes))

    def _roll_over(self) -> None:
        now = self._now()
        if now < self._ends:
            return
        minute = int(now // 60)
        passed, self._minute, self._ends = minute - self._minute, minute, 60.0 * (minute + 1)
        for _ in range(min(passed, MINUTES)):
            for counts in self._counts.values():
                counts.append(0)
