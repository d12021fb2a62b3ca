"""A bounded cache of host name addresses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec

from rqdisco.probes.resolution.fair_map import FairMap


class CachedAddresses(msgspec.Struct):
    """The cached addresses of a name. Times are seconds of the clock."""

    ips: Sequence[str] = ()
    # When the last lookup succeeded, and when the next one is due.
    at: float = -inf
    due: float = -inf
    # When the last warning about the name was logged.
    warned: float = -inf
    # How many IDs claim the name.
    claims: int = 0


class ResolutionCache:
    """Caches names while an ID claims them. There are up to `capacity` claims. When the cache is
    full, the ID with the most claims loses its oldest, so an ID with many names only evicts its
    own.
    """

    def __init__(self, capacity: int) -> None:
        self._cached: dict[str, CachedAddresses] = {}
        self._claims: FairMap[tuple[str, str], str] = FairMap(capacity)

    def __len__(self) -> int:
        """Return how many names are cached."""
        return len(self._cached)

    def get(self, name: str) -> CachedAddresses | None:
        """Return the entry of a name, None without one."""
        return self._cached.get(name)

    def claim(self, discovery_id: str, name: str) -> CachedAddresses:
        """Return the entry of a name, which this ID claims from now on."""
        claim = discovery_id, name
        if self._claims.get(claim) is None:
            self._cached.setdefault(name, CachedAddresses()).claims += 1
            evicted = self._claims.put(discovery_id, claim, name)
            if evicted is not None:
                self._release(evicted)
        return self._cached[name]

    def _release(self, name: str) -> None:
        self._cached[name].claims -= 1
        if not self._cached[name].claims:
            del self._cached[name]
