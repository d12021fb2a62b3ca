"""When grants of other homes were first seen here, since moments of another machine say nothing on
this one (R4).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from rqdisco.core.records import Record

MOST = 50_000


class Sightings:
    """Remembers grants for the window of so many seconds; `now` gives seconds of a clock that never
    goes back.

    Of more than `most` grants the oldest are forgotten, and taken to be as young as the youngest of
    those: what is in doubt is young, and refused.
    """

    def __init__(self, now: Callable[[], float], window: float, most: int = MOST) -> None:
        self._now = now
        self._window = window
        self._most = most
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        # What was here at the start may have been granted right before.
        self._otherwise = now()

    def see(self, record: Record) -> None:
        """A record of another home came in."""
        if record.grant is None or record.confirmed:
            return
        grant, now = _name(record), self._now()
        known = self._seen.get(record.id)
        if known is None or known[0] != grant:
            self._seen[record.id] = grant, now
            self._seen.move_to_end(record.id)
        self._forget(now)

    def is_young(self, record: Record) -> bool:
        """Whether the grant of a record may be younger than the window, as far as can be known
        here.
        """
        grant, at = self._seen.get(record.id, ("", 0.0))
        return self._now() - (at if grant == _name(record) else self._otherwise) <= self._window

    def _forget(self, now: float) -> None:
        while self._seen:
            oldest = next(iter(self._seen))
            at = self._seen[oldest][1]
            is_young = now - at <= self._window
            if is_young and len(self._seen) <= self._most:
                return
            del self._seen[oldest]
            if is_young:
                self._otherwise = max(self._otherwise, at)


def _name(record: Record) -> str:
    grant = record.grant
    return "" if grant is None else f"{grant.addr} {grant.boot} {grant.at}"
