"""How many answers a source may have over UDP, whose sender anybody can claim to be."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

MOST_SOURCES = 10_000


class SourceLimit:
    """A token bucket for each IPv4 address and each IPv6 /64: `rate` answers a second, as many at once, or one.

    A rate of 0 is no limit.
    The machine itself is not limited: its own resolver asks for everybody on it.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, host: str) -> bool:
        """Whether `host` may have an answer now; counts it if so."""
        if not self._rate or host.removeprefix("::ffff:").startswith("127.") or host == "::1":
            return True
        source = _source(host)
        now = self._now()
        tokens, since = self._buckets.get(source, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > MOST_SOURCES:
            self._buckets.popitem(last=False)
        return allowed


def _source(host: str) -> str:
    if ":" not in host:
        return host
    ip = ipaddress.IPv6Address(host.partition("%")[0])
    return str(ip.ipv4_mapped) if ip.ipv4_mapped is not None else ip.packed[:8].hex()
