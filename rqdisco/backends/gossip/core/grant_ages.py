"""The times at which grants of other owners first arrived here; the times of another machine mean
nothing on this one (R4).
"""

from __future__ import annotations

from collections import OrderedDict

from rqdisco.core.records import Record

MAX_GRANTS = 50_000


class GrantAges:
    """Remembers grants for `window` seconds; times are monotonic seconds, `now` the start.

    Beyond `max_grants` the oldest are dropped, and count as young as the youngest dropped one: a
    doubtful grant is young, and refused.
    """

    def __init__(self, now: float, window: float, max_grants: int = MAX_GRANTS) -> None:
        self._window = window
        self._max_grants = max_grants
        self._observed: OrderedDict[str, tuple[str, float]] = OrderedDict()
        # Grants found at start may have been made just before it.
        self._assumed_at = now

    def observe(self, record: Record, now: float) -> None:
        """Record a grant replicated from another owner."""
        if record.grant is None or record.confirmed:
            return
        grant = _grant_key(record)
        known = self._observed.get(record.id)
        if known is None or known[0] != grant:
            self._observed[record.id] = grant, now
            self._observed.move_to_end(record.id)
        self._expire(now)

    def is_young(self, record: Record, now: float) -> bool:
        """Report whether a record's grant may be younger than the window."""
        grant, at = self._observed.get(record.id, ("", 0.0))
        return now - (at if grant == _grant_key(record) else self._assumed_at) <= self._window

    def _expire(self, now: float) -> None:
        while self._observed:
            oldest = next(iter(self._observed))
            at = self._observed[oldest][1]
            is_young = now - at <= self._window
            if is_young and len(self._observed) <= self._max_grants:
                return
            del self._observed[oldest]
            if is_young:
                self._assumed_at = max(self._assumed_at, at)


def _grant_key(record: Record) -> str:
    grant = record.grant
    return "" if grant is None else f"{grant.addr} {grant.boot} {grant.at}"
