"""How often a client may ask: who asks too much waits, and who would wait too long is refused.

Clients of the discovery API exit on any refusal, and few of them wait before they are started
again; so they are slowed down as long as that is possible, and 429 is answered only where IDs are
minted, which no node does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.core.errors import TooManyCreations, TooManyRequests
from rqdisco.http.requests.responses import refusal_of
from rqdisco.limits.rates import Buckets, is_local_source, source_of

# With the seconds in which an answer is given, what a request may take in all (P4).
HOLD_SECONDS = 1.0
# As much may come in a short time as comes in so many seconds: a whole cluster starts behind one
# address. It is answered so many times as fast as can go on for ever, and a little of it at once.
BURST_SECONDS = 10.0
_BURST_SPEED = 5.0
_AT_ONCE_SECONDS = 0.1
# Of those that were held, so many go on in one turn of the reactor: some milliseconds.
_IN_A_TURN = 20
# Who asks these decides by the answer whether the daemon is alive.
_PROBES = frozenset({b"healthz", b"readyz"})


class Throttled(Resource):
    """Holds what a client asks beyond `rate` requests a second before `resource` sees it, each in
    its turn.

    Whoever would be held for longer than `HOLD_SECONDS` is refused when that time is over, since
    who is refused at once asks again at once. The machine itself, and sockets that are no
    network's, are not limited. `count` is called for each refusal.
    """

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(
        self, resource: IResource, clock: IReactorTime, rate: float, count: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self._count = count
        self._resource: Any = resource
        self._queue = Queue(clock, self._go_on)
        self._steady = Buckets(rate, rate * BURST_SECONDS, clock.seconds)
        self._short = Buckets(rate * _BURST_SPEED, rate * _AT_ONCE_SECONDS, clock.seconds)

    def render(self, request: Any) -> Any:
        source = _source(request)
        if source is None or request.path.strip(b"/") in _PROBES:
            return self._resource.render(request)
        wait = max(self._steady.take(source, HOLD_SECONDS), self._short.take(source, HOLD_SECONDS))
        if not wait:
            return self._resource.render(request)
        self._queue.add(min(wait, HOLD_SECONDS), request, wait)
        return NOT_DONE_YET

    def _go_on(self, request: Any, wait: float) -> None:
        try:
            if wait <= HOLD_SECONDS:
                request.render(self._resource)
            else:
                self._count()
                request.write(_refused(request, wait - HOLD_SECONDS))
                request.finish()
        except Exception:
            request.processingFailed(Failure())


class Queue:
    """Requests that are held until their time has come, and go on a few in each turn of the
    reactor.

    `go_on` is called with a request whose client is still there, and with what was given beside it.
    """

    def __init__(self, clock: IReactorTime, go_on: Callable[[Any, float], None]) -> None:
        self._clock = clock
        self._go_on = go_on
        self._held: list[tuple[float, int, Any, float]] = []
        self._counted = itertools.count()
        self._timer: IDelayedCall | None = None

    def add(self, seconds: float, request: Any, wait: float) -> None:
        """Hold a request for so long."""
        due = self._clock.seconds() + seconds
        heapq.heappush(self._held, (due, next(self._counted), request, wait))
        if self._timer is None or due < self._timer.getTime():
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._timer = self._clock.callLater(max(0.0, self._held[0][0] - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for _ in range(_IN_A_TURN):
            if not self._held or self._held[0][0] > now:
                break
            _, _, request, wait = heapq.heappop(self._held)
            # Of one whose client is gone the channel is None (Twisted's Request.connectionLost).
            if request.channel is not None:
                self._go_on(request, wait)
        self._set_timer()


def throttled(resource: IResource, clock: IReactorTime, rate: float, count: Callable[[], None]) -> IResource:
    """The resource, for clients with so many requests a second; 0 for any number."""
    return Throttled(resource, clock, rate, count) if rate else resource


class CreationLimit:
    """How many IDs a client may make: `rate` a second, 0 for any number."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._buckets = Buckets(rate, rate * BURST_SECONDS, now)

    def check_create(self, request: Any) -> None:
        """Count an ID that is to be minted. Raises TooManyCreations."""
        if wait := self._take(request):
            raise TooManyCreations(wait)

    def check_named(self, request: Any) -> None:
        """Count one that comes to be by its leader key, which nodes put. Raises TooManyRequests."""
        if wait := self._take(request):
            raise TooManyRequests(wait)

    def _take(self, request: Any) -> float:
        source = _source(request) if self._rate else None
        return 0.0 if source is None else self._buckets.take(source)


def _source(request: Any) -> str | None:
    """Whose request it is; None where nobody is limited."""
    host = getattr(request.client, "host", None)
    return None if host is None else _limited(host)


@lru_cache(maxsize=1024)
def _limited(host: str) -> str | None:
    return None if is_local_source(host) else source_of(host)


def _refused(request: Any, seconds: float) -> bytes:
    refusal = refusal_of(Failure(TooManyRequests(seconds)))
    body = (refusal.as_text() if request.path.lstrip(b"/").startswith(b"v1/") else refusal.as_json()).put_on(request)
    return b"" if request.method == b"HEAD" else body
