"""Response rate limiting for DNS over UDP, where source addresses can be forged."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.limits.rates import Buckets, is_local_source, source_of


class ResponseRateLimit:
    """Limit responses to `rate` per second and source, with bursts of the same size (at least 1); 0
    is no limit.

    The local host is not limited, since its resolver queries for all of its programs.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._buckets = Buckets(rate, rate, now)

    def allows(self, host: str) -> bool:
        """Report whether `host` may get a response now, and count it."""
        if not self._rate or is_local_source(host):
            return True
        return self._buckets.take(source_of(host)) == 0
