"""Who was told what under an ID: the last answers of this daemon, and since when it knows each address; in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

MOST_ANSWERS = 20
_MOST_IDS = 10_000
_MOST_ADDRESSES = 200_000


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer: `at` is in microseconds since 1970 by the wall clock, `listed` how many nodes it named."""

    at: int
    addr: str
    what: str
    listed: int


class _OfID:
    __slots__ = ("answers", "first")

    def __init__(self) -> None:
        self.answers: deque[Told] = deque(maxlen=MOST_ANSWERS)
        self.first: dict[str, int] = {}


class ToldLog:
    """The last answers for each of the IDs that were asked for last."""

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self._wall_us = wall_us
        self._ids: OrderedDict[str, _OfID] = OrderedDict()
        self._addresses = 0

    def note(self, discovery_id: str, addr: str, what: str, listed: int) -> None:
        """An answer is about to be sent."""
        known = self._ids.get(discovery_id)
        if known is None:
            known = self._ids[discovery_id] = _OfID()
        else:
            self._ids.move_to_end(discovery_id)
        at = self._wall_us()
        known.answers.append(Told(at=at, addr=addr, what=what, listed=listed))
        if addr not in known.first:
            known.first[addr] = at
            self._addresses += 1
        while len(self._ids) > _MOST_IDS or (self._addresses > _MOST_ADDRESSES and len(self._ids) > 1):
            _, dropped = self._ids.popitem(last=False)
            self._addresses -= len(dropped.first)

    def of(self, discovery_id: str) -> Sequence[Told]:
        """The answers for an ID, the oldest first."""
        known = self._ids.get(discovery_id)
        return () if known is None else tuple(known.answers)

    def first(self, discovery_id: str, listed: Iterable[str]) -> Mapping[str, int]:
        """When addresses were first answered, in microseconds since 1970; those that are not listed are forgotten."""
        known = self._ids.get(discovery_id)
        if known is None:
            return {}
        kept = {addr: known.first[addr] for addr in listed if addr in known.first}
        self._addresses -= len(known.first) - len(kept)
        known.first = kept
        return kept

    def forget(self, discovery_id: str, addr: str) -> None:
        """An address was removed: what registers as it later is another node."""
        known = self._ids.get(discovery_id)
        if known is not None and known.first.pop(addr, None) is not None:
            self._addresses -= 1
