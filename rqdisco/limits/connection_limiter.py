"""How many connections there may be, in all and for each source; who makes room for a new one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from rqdisco.limits.rates import Buckets, is_local_source, source_of

# Of so many at a time the one is chosen that makes room: enough to meet those of a crowd, and no
# cost by their number.
_LOOKED_AT = 32
UNLIMITED = 1 << 60
# To put one in the place of another costs more than to close it as it comes, so it is done so often
# a second for one source, and so often at once.
_DISPLACED = 20.0
_DISPLACED_AT_ONCE = 100.0


class LimitedConnection(Protocol):
    """A connection: whether its client waits for an answer, and until when it may go on like
    this.
    """

    deadline: float

    @property
    def is_busy(self) -> bool: ...

    def cut(self) -> None:
        """End at once."""


class ConnectionLimiter:
    """The connections of one door: `most` in all, `most_each` of one source.

    Beyond that one makes room that waits for no answer: of the same source, or of the one that has
    the most. The machine itself counts as one source with no limit of its own, since its proxies
    ask for everybody. `now` gives the seconds of a monotonic clock.
    """

    def __init__(self, most: int, most_each: int, now: Callable[[], float]) -> None:
        self._displacing = Buckets(_DISPLACED, _DISPLACED_AT_ONCE, now)
        self._most = most
        self._most_each = most_each
        self._sources: dict[LimitedConnection, str] = {}
        self._all: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._of: dict[str, OrderedDict[LimitedConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def is_closed_to(self, host: str | None) -> bool:
        """Whether one more from there would have no place, as far as that can be told before it is
        there.
        """
        source = _source(host)
        return source != "" and self._is_full(source) and self._displacing.take(source, patience=-1) > 0

    def enter(self, member: LimitedConnection, host: str | None) -> bool:
        """Take in a connection; False if there is no room, and nobody who could make any.

        `host` is None for one that came through no network, or of which it is not known yet from
        where.
        """
        source = _source(host)
        if source and self._is_full(source):
            if self._displacing.take(source) or not self._make_room(self._of[source]):
                return False
        elif len(self._all) >= self._most and not self._make_room(self._all):
            return False
        self._sources[member] = source
        self._all[member] = self._of.setdefault(source, OrderedDict())[member] = None
        return True

    def leave(self, member: LimitedConnection) -> None:
        """A connection is gone, if it was here at all."""
        source = self._sources.pop(member, None)
        if source is not None:
            del self._all[member]
            del self._of[source][member]
            if not self._of[source]:
                del self._of[source]

    def _is_full(self, source: str) -> bool:
        return len(self._of.get(source, ())) >= self._most_each

    def _make_room(self, among: OrderedDict[LimitedConnection, None]) -> bool:
        looked_at = list(islice(among, _LOOKED_AT))
        for member in looked_at:
            # Next time it is the turn of others.
            among.move_to_end(member)
        idle = [member for member in looked_at if not member.is_busy]
        if not idle:
            return False
        least = min(idle, key=lambda member: (-len(self._of[self._sources[member]]), member.deadline))
        self.leave(least)
        least.cut()
        return True


def _source(host: str | None) -> str:
    return "" if host is None or is_local_source(host) else source_of(host)
