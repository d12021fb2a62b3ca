"""What is remembered of host names, in bounded memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec

from rqdisco.probes.resolution.fair_map import FairMap


class CachedAddresses(msgspec.Struct):
    """The addresses of a name that were found last, when that was, and when to look it up again.

    `warned` is when the log last said that it does not resolve, `claims` is how many IDs have it
    remembered.
    """

    ips: Sequence[str] = ()
    at: float = -inf
    due: float = -inf
    warned: float = -inf
    claims: int = 0


class ResolutionCache:
    """Remembers names as long as an ID claims them. There are up to `most` claims; the ID with the
    most of them loses its oldest, so an ID with many names forgets its own, and none that others
    need as well.
    """

    def __init__(self, most: int) -> None:
        self._known: dict[str, CachedAddresses] = {}
        self._claims: FairMap[tuple[str, str], str] = FairMap(most)

    def __len__(self) -> int:
        """Return how many names are remembered."""
        return len(self._known)

    def get(self, name: str) -> CachedAddresses | None:
        """Return what is known of a name."""
        return self._known.get(name)

    def claim(self, discovery_id: str, name: str) -> CachedAddresses:
        """Return what is known of a name, and remember it for this ID from now on."""
        claim = discovery_id, name
        if self._claims.get(claim) is None:
            self._known.setdefault(name, CachedAddresses()).claims += 1
            forgotten = self._claims.put(discovery_id, claim, name)
            if forgotten is not None:
                self._release(forgotten)
        return self._known[name]

    def _release(self, name: str) -> None:
        self._known[name].claims -= 1
        if not self._known[name].claims:
            del self._known[name]
