"""Rate limits of HTTP clients: throttle by delaying; only creating IDs returns 429.

Clients of the discovery API exit on any refusal, and few of them wait before they are started
again. So requests are delayed as long as possible, and 429 is returned only for creating IDs, which
no node does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from rqdisco.core.errors import TooManyCreations, TooManyRequests
from rqdisco.http.requests.costs import LOOKUP_SECONDS, measured_cost
from rqdisco.http.requests.request import Request, is_consul_path
from rqdisco.http.requests.responses import refusal_of
from rqdisco.http.server.interfaces import Application
from rqdisco.limits.rates import Buckets, is_local_source, source_of

# Together with the seconds for an answer, the longest time that a request may take (P4).
MAX_DELAY_SECONDS = 1.0
# The burst allowance, in seconds of the rate: a whole cluster starts behind one address. A burst is
# served at a multiple of the rate, and a small part of it without delay.
BURST_SECONDS = 10.0
_BURST_SPEED = 5.0
_UNDELAYED_SECONDS = 0.1
# The longest that a client waits for what it was charged.
_DEBT_SECONDS = 5.0
# Delayed requests that are resumed in one turn of the reactor: some milliseconds of work.
_RESUMED_PER_TURN = 20
# Supervisors decide by these whether the daemon is alive.
_HEALTH_PATHS = frozenset({b"healthz", b"readyz"})


class PricedApplication(Application, Protocol):
    """An application that knows what requests cost."""

    def cost(self, request: Request) -> float:
        """Return what is known of the cost of a request before it is handled, in lookups."""


class ThrottledApplication:
    """Delays requests of a client beyond `rate` a second before `application` receives them, in
    order.

    A request starts if its client has at least one token. The client is then charged the largest
    of three figures (`costs`): the cost known in advance, the cost reported by the handler, and the
    CPU time of the first turn. Later requests wait until the debt is paid.

    A request that would be delayed for longer than `MAX_DELAY_SECONDS` is refused after that time:
    a client that is refused at once retries at once. Requests from this machine and through UNIX
    sockets are not limited. `cpu` returns the seconds of CPU time of this thread. `count` is called
    for each refusal.
    """

    def __init__(
        self,
        application: PricedApplication,
        clock: IReactorTime,
        rate: float,
        cpu: Callable[[], float],
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self._count = count
        self._cpu = cpu
        self._application = application
        self.max_body = application.max_body
        self._queue = DelayQueue(clock, self._resume)
        self._steady = Buckets(rate, rate * BURST_SECONDS, clock.seconds, rate * _DEBT_SECONDS)
        # Limits the number of requests in a burst, whatever they cost: a page is followed by its files.
        self._burst = Buckets(rate * _BURST_SPEED, rate * _UNDELAYED_SECONDS, clock.seconds)

    def handle(self, request: Request) -> None:
        """Pass the request on, now or later, or refuse it."""
        source = _source(request)
        if source is None or request.path.strip(b"/") in _HEALTH_PATHS:
            self._application.handle(request)
            return
        cost = self._application.cost(request)
        wait = max(self._steady.take(source, MAX_DELAY_SECONDS, cost), self._burst.take(source, MAX_DELAY_SECONDS))
        request.charge = Bill(self._steady, source, cost)
        if wait:
            self._queue.add(min(wait, MAX_DELAY_SECONDS), request, wait)
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        """Pass a request on, and charge its client for the CPU time that it takes."""
        began = self._cpu()
        self._application.handle(request)
        took, bill = self._cpu() - began, request.charge
        if took > LOOKUP_SECONDS and isinstance(bill, Bill):
            bill.at_least(measured_cost(took))

    def _resume(self, request: Request, wait: float) -> None:
        try:
            if wait <= MAX_DELAY_SECONDS:
                self._serve(request)
            else:
                self._count()
                refusal = refusal_of(Failure(TooManyRequests(wait - MAX_DELAY_SECONDS)))
                request.respond(refusal.as_text() if is_consul_path(request) else refusal.as_json())
        except Exception:
            request.fail(Failure())


class Bill(msgspec.Struct, gc=False):
    """The charge of the client at `source` for a request."""

    buckets: Buckets
    source: str
    # The total charged, and the part of it that the handler reported.
    total: float
    spent: float = 0.0

    def __call__(self, units: float) -> None:
        """Charge `units` more, less what was charged already."""
        self.spent += units
        self.at_least(self.spent)

    def at_least(self, units: float) -> None:
        """Charge what is missing to `units` in all."""
        missing = units - self.total
        if missing > 0:
            self.total = units
            self.buckets.charge(self.source, missing)


class DelayQueue:
    """Delayed requests, resumed when they are due, a few in each turn of the reactor.

    `resume` is called with a request whose client is still connected, and with the `wait` that was
    queued with it.
    """

    def __init__(self, clock: IReactorTime, resume: Callable[[Request, float], None]) -> None:
        self._clock = clock
        self._resume = resume
        self._heap: list[tuple[float, int, Request, float]] = []
        self._numbers = itertools.count()
        self._timer: IDelayedCall | None = None

    def add(self, seconds: float, request: Request, wait: float) -> None:
        """Resume a request after `seconds`."""
        due = self._clock.seconds() + seconds
        heapq.heappush(self._heap, (due, next(self._numbers), request, wait))
        if self._timer is None or due < self._timer.getTime():
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._clock.callLater(max(0.0, self._heap[0][0] - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for _ in range(_RESUMED_PER_TURN):
            if not self._heap or self._heap[0][0] > now:
                break
            _, _, request, wait = heapq.heappop(self._heap)
            if not request.is_gone:
                self._resume(request, wait)
        self._set_timer()


def throttle(
    application: PricedApplication,
    clock: IReactorTime,
    rate: float,
    cpu: Callable[[], float],
    count: Callable[[], None],
) -> Application:
    """Limit each client of `application` to `rate` requests a second; 0 is no limit."""
    return ThrottledApplication(application, clock, rate, cpu, count) if rate else application


class CreationLimit:
    """Limits each client to creating `rate` IDs a second; 0 is no limit."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._buckets = Buckets(rate, rate * BURST_SECONDS, now)

    def check_create(self, request: Request) -> None:
        """Count an ID that is about to be created. Raises TooManyCreations."""
        if wait := self._take(request):
            raise TooManyCreations(wait)

    def check_named(self, request: Request) -> None:
        """Count an ID that its leader key creates, which nodes put. Raises TooManyRequests."""
        if wait := self._take(request):
            raise TooManyRequests(wait)

    def _take(self, request: Request) -> float:
        source = _source(request) if self._rate else None
        return 0.0 if source is None else self._buckets.take(source)


def _source(request: Request) -> str | None:
    """The source to limit a request by; None if it is not limited."""
    return None if request.client is None else _limited(request.client)


@lru_cache(maxsize=1024)
def _limited(host: str) -> str | None:
    return None if is_local_source(host) else source_of(host)
