"""Rate limits per source: token buckets in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from math import inf

MOST_SOURCES = 10_000
_LOOPBACK = ("127.", "::ffff:127.")


def source_of(host: str) -> str:
    """Return the source of an address: an IPv4 address, also if written as IPv6, or an IPv6 /64,
    all of which one user may have.
    """
    if ":" not in host:
        return host
    ip = ipaddress.IPv6Address(host.partition("%")[0])
    return str(ip.ipv4_mapped) if ip.ipv4_mapped is not None else ip.packed[:8].hex()


def is_local_source(host: str) -> bool:
    """Report whether an address is this machine's own, whose resolver or proxy acts for many
    clients.
    """
    return host.startswith(_LOOPBACK) or host == "::1"


class Buckets:
    """A token bucket for each source: `rate` tokens are added per second, up to `most`.

    `now` returns seconds of a monotonic clock. Only the sources seen last are remembered; one that
    is forgotten has a full bucket again. No cost takes a bucket further below zero than `max_debt`,
    apart from the one token that each waiting request reserves.
    """

    def __init__(self, rate: float, most: float, now: Callable[[], float], max_debt: float = inf) -> None:
        self._rate = rate
        self._most = max(1.0, most)
        self._now = now
        self._max_debt = max_debt
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of sources remembered."""
        return len(self._buckets)

    def take(self, source: str, patience: float = 0.0, cost: float = 1.0) -> float:
        """Take `cost` tokens as soon as there is one; return the seconds until then, 0 if it is
        now. Take none if that is more than `patience`.

        A waiting request has reserved its tokens, so requests of one source proceed in their order.
        """
        now = self._now()
        tokens, since = self._buckets.get(source, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[source] = (
            max(tokens - cost, min(tokens - 1, -self._max_debt)) if wait <= patience else tokens,
            now,
        )
        self._buckets.move_to_end(source)
        if len(self._buckets) > MOST_SOURCES:
            self._buckets.popitem(last=False)
        return wait

    def charge(self, source: str, cost: float) -> None:
        """Take `cost` tokens for something that is done already, though there may be fewer."""
        # Brings the bucket up to date.
        self.take(source, patience=-1.0)
        tokens, now = self._buckets[source]
        self._buckets[source] = max(tokens - cost, min(tokens, -self._max_debt)), now
