"""What is counted while requests are served: plain numbers, which become metrics only when somebody
asks for those.

A labelled counter of a metrics library takes some microseconds; a request of ours takes a hundred.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

# A door and what is asked there, such as ("discovery", "/ID").
Route = tuple[str, str]

UNKNOWN_ROUTE: Route = ("none", "other")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5)
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE")}


class Histogram:
    """How many of what was observed lie below each of some bounds, and their sum. One thread
    observes.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more, which belongs to the first bound that it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RouteCounts:
    """The requests of one method for one route: how often each status was answered, and in how many
    seconds.
    """

    __slots__ = ("seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.seconds = Histogram()


class RequestCounts:
    """All requests over HTTP; `abandoned` are those whose client left before its answer, by
    door.
    """

    def __init__(self) -> None:
        self.asked: dict[tuple[Route, str], RouteCounts] = {}
        self.abandoned: Counter[str] = Counter()
        self._known: dict[tuple[Route, bytes], RouteCounts] = {}

    def answered(self, route: Route, method: bytes, status: int, seconds: float) -> None:
        """A request was answered."""
        asked = self._known.get((route, method)) or self._find(route, method)
        asked.statuses[status] += 1
        asked.seconds.observe(seconds)

    def _find(self, route: Route, method: bytes) -> RouteCounts:
        # Clients invent methods; what is kept of them must not grow with that.
        name = _METHODS.get(method, "other")
        asked = self.asked.setdefault((route, name), RouteCounts())
        if method in _METHODS:
            self._known[route, method] = asked
        return asked


class DNSCounts:
    """All questions over DNS: what was answered, by transport and RCODE, in how many seconds, and
    who was sent to TCP for asking too much.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds = Histogram()
        self.limited = 0

    def answered(self, transport: str, rcode: int, seconds: float) -> None:
        """A question was answered."""
        self.answers[transport, rcode] += 1
        self.seconds.observe(seconds)


class LookUpCounts:
    """Look-ups of registered host names, by what came of them; `kept` is how often the addresses of
    an older one were used because no newer one had ended well.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter(found=0, absent=0, failed=0, dropped=0)
        self.kept = 0
