"""How many answers a source may have over UDP, whose sender anybody can claim to be."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.limits.rates import Buckets, is_local_source, source_of


class SourceLimit:
    """`rate` answers a second for each source, as many at once, or one. A rate of 0 is no limit.

    The machine itself is not limited: its own resolver asks for everybody on it.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._buckets = Buckets(rate, rate, now)

    def allows(self, host: str) -> bool:
        """Whether `host` may have an answer now; counts it if so."""
        if not self._rate or is_local_source(host):
            return True
        return self._buckets.take(source_of(host)) == 0
