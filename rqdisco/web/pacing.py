"""How often a client may ask: who asks too much waits, and who would wait too long is refused.

Clients of the discovery API exit on any refusal, and few of them wait before they are started again; so they are slowed
down as long as that is possible, and 429 is answered only where IDs are minted, which no node does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.errors import TooManyMints, TooManyRequests
from rqdisco.rates import Buckets, is_own, source_of
from rqdisco.web.answers import refusal_of

# With the seconds in which an answer is given, what a request may take in all (P4).
HOLD_SECONDS = 1.0
# What may come at once is as much as comes in so many seconds: a whole cluster starts behind one address.
BURST_SECONDS = 10.0
# Who asks these decides by the answer whether the daemon is alive.
_PROBES = frozenset({b"/healthz", b"/readyz"})


class Paced(Resource):
    """Holds what a client asks beyond `rate` requests a second before `resource` sees it, each in its turn.

    Whoever would be held for longer than `HOLD_SECONDS` is refused. The machine itself, and sockets that are no
    network's, are not limited. `count` is called for each refusal.
    """

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(
        self, resource: IResource, clock: IReactorTime, rate: float, count: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = count
        self._resource: Any = resource
        self._clock = clock
        self._buckets = Buckets(rate, rate * BURST_SECONDS, clock.seconds)

    def render(self, request: Any) -> Any:
        source = _source(request)
        wait = 0.0 if source is None else self._buckets.take(source, HOLD_SECONDS)
        if not wait or request.path in _PROBES:
            return self._resource.render(request)
        if wait > HOLD_SECONDS:
            self._count()
            return _refused(request, wait - HOLD_SECONDS)
        held = self._clock.callLater(wait, self._go_on, request)
        request.notifyFinish().addErrback(lambda _: _give_up(held))
        return NOT_DONE_YET

    def _go_on(self, request: Any) -> None:
        try:
            request.render(self._resource)
        except Exception:
            request.processingFailed(Failure())


def paced(resource: IResource, clock: IReactorTime, rate: float, count: Callable[[], None]) -> IResource:
    """The resource, for clients with so many requests a second; 0 for any number."""
    return Paced(resource, clock, rate, count) if rate else resource


class MintLimit:
    """How many IDs a client may make: `rate` a second, 0 for any number."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._buckets = Buckets(rate, rate * BURST_SECONDS, now)

    def check_mint(self, request: Any) -> None:
        """Count an ID that is to be minted. Raises TooManyMints."""
        if wait := self._take(request):
            raise TooManyMints(wait)

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
    return None if host is None or is_own(host) else source_of(host)


def _refused(request: Any, seconds: float) -> bytes:
    refusal = refusal_of(Failure(TooManyRequests(seconds)))
    body = (refusal.as_text() if request.path.startswith(b"/v1/") else refusal.as_json()).put_on(request)
    return b"" if request.method == b"HEAD" else body


def _give_up(held: IDelayedCall) -> None:
    if held.active():
        held.cancel()
