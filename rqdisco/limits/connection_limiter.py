"""Limits connections, in total and per source; closes an idle one to make room for a new one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from rqdisco.limits.rates import Buckets, is_local_source, source_of

# The connection to close is chosen among this many: enough to find one of a flooding source, at a
# cost independent of the total.
_CANDIDATES = 32
UNLIMITED = 1 << 60
# Displacing a connection costs more than refusing the new one, so each source may do so at this
# rate per second, with this burst.
_DISPLACE_RATE = 20.0
_DISPLACE_BURST = 100.0


class LimitedConnection(Protocol):
    """A connection. `deadline` is when it is closed unless its state changes; it is busy while its
    client waits for an answer.
    """

    deadline: float

    @property
    def is_busy(self) -> bool: ...

    def cut(self) -> None:
        """Close at once."""


class ConnectionLimiter:
    """The connections of one listener: at most `most` in total, `most_each` per source.

    Beyond that, a new connection displaces an idle one: of the same source, or of the source that
    has the most. This machine, and the hosts of which `is_proxy` is true, count as one source
    without a limit of its own, since proxies act for many clients. `now` returns seconds of a
    monotonic clock.
    """

    def __init__(
        self,
        most: int,
        most_each: int,
        now: Callable[[], float],
        is_proxy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._is_proxy = is_proxy
        self._displacing = Buckets(_DISPLACE_RATE, _DISPLACE_BURST, now)
        self._most = most
        self._most_each = most_each
        self._sources: dict[LimitedConnection, str] = {}
        self._all: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._of: dict[str, OrderedDict[LimitedConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def is_closed_to(self, host: str | None) -> bool:
        """Report whether another connection from `host` would be refused, as far as that is known
        before it is accepted.
        """
        source = self._source(host)
        return source != "" and self._is_full(source) and self._displacing.take(source, patience=-1) > 0

    def enter(self, member: LimitedConnection, host: str | None) -> bool:
        """Admit a connection; return False if there is no room and no idle one to displace.

        `host` is None for a UNIX socket, or while the client's address is not known yet.
        """
        source = self._source(host)
        if source and self._is_full(source):
            if self._displacing.take(source) or not self._make_room(self._of[source]):
                return False
        elif len(self._all) >= self._most and not self._make_room(self._all):
            return False
        self._sources[member] = source
        self._all[member] = self._of.setdefault(source, OrderedDict())[member] = None
        return True

    def leave(self, member: LimitedConnection) -> None:
        """Remove a connection, if it was admitted."""
        source = self._sources.pop(member, None)
        if source is not None:
            del self._all[member]
            del self._of[source][member]
            if not self._of[source]:
                del self._of[source]

    def _source(self, host: str | None) -> str:
        return "" if host is None or is_local_source(host) or self._is_proxy(host) else source_of(host)

    def _is_full(self, source: str) -> bool:
        return len(self._of.get(source, ())) >= self._most_each

    def _make_room(self, among: OrderedDict[LimitedConnection, None]) -> bool:
        candidates = list(islice(among, _CANDIDATES))
        for member in candidates:
            # Next time others are candidates.
            among.move_to_end(member)
        idle = [member for member in candidates if not member.is_busy]
        if not idle:
            return False
        displaced = min(idle, key=lambda member: (-len(self._of[self._sources[member]]), member.deadline))
        self.leave(displaced)
        displaced.cut()
        return True
