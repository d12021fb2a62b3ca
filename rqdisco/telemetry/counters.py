"""Counts of requests, questions and lookups: plain numbers, which become metrics only when
`/metrics` is read.

Incrementing a labelled counter of a metrics library takes some microseconds; a whole request takes
a hundred.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

# An API and a path pattern in it, such as ("discovery", "/ID").
Route = tuple[str, str]

UNKNOWN_ROUTE: Route = ("none", "other")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5)
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}


class Histogram:
    """Counts observed values by upper bound, and their sum. Only one thread may call `observe`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value under the first bound that it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RouteCounts:
    """The answers to one method of one route, by status, and their durations in seconds."""

    __slots__ = ("seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds = Histogram()


class RequestCounts:
    """HTTP requests by route and method. `abandoned` counts those whose client disconnected before
    the answer, by API.
    """

    def __init__(self) -> None:
        self.by_route: dict[tuple[Route, str], RouteCounts] = {}
        self.abandoned: Counter[str] = Counter()
        self._known: dict[tuple[Route, bytes], RouteCounts] = {}

    def answered(self, route: Route, method: bytes, status: int, seconds: float) -> None:
        """Count an answer that took `seconds`."""
        counts = self._known.get((route, method)) or self._find(route, method)
        counts.statuses[status] += 1
        counts.seconds.observe(seconds)

    def _find(self, route: Route, method: bytes) -> RouteCounts:
        # Clients may send any number of invented methods, which must not use memory each.
        name = _METHODS.get(method, "other")
        counts = self.by_route.setdefault((route, name), RouteCounts())
        if method in _METHODS:
            self._known[route, method] = counts
        return counts


class DNSCounts:
    """DNS answers by transport and RCODE, and their durations in seconds. `limited` counts
    rate-limited questions, whose clients were sent to TCP.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds = Histogram()
        self.limited = 0

    def answered(self, transport: str, rcode: int, seconds: float) -> None:
        """Count an answer that took `seconds`."""
        self.answers[transport, rcode] += 1
        self.seconds.observe(seconds)


class LookupCounts:
    """Lookups of registered host names, by outcome. `kept` counts how often the addresses of an
    older lookup were used because no newer one succeeded.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter(found=0, absent=0, failed=0, dropped=0)
        self.kept = 0
