"""Who was told what under an ID: the last answers of this daemon, and since when it knows each address; in memory."""

from __future__ import annotations

from collections import OrderedDict
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
    """Lines of text, which take a third of the memory that objects would: `AT LISTED ADDRESS WHAT` for each answer,
    and `ADDRESS AT` for each address, of which none has white space.
    """

    __slots__ = ("answers", "first")

    def __init__(self) -> None:
        self.answers = b""
        self.first = b"\n"

    def add(self, at: int, addr: bytes, what: str, listed: int) -> None:
        self.answers += b"%d %d %b %b\n" % (at, listed, addr, what.encode())
        if self.answers.count(b"\n") > MOST_ANSWERS:
            self.answers = self.answers.partition(b"\n")[2]

    def knows(self, addr: bytes) -> bool:
        return b"\n%b " % addr in self.first

    def keep(self, known: Mapping[str, int]) -> None:
        self.first = b"\n" + b"".join(b"%b %d\n" % (addr.encode(), at) for addr, at in known.items())

    @property
    def count(self) -> int:
        return self.first.count(b"\n") - 1

    @property
    def known(self) -> dict[str, int]:
        pairs = (line.split(" ") for line in self.first.decode().splitlines()[1:])
        return {addr: int(at) for addr, at in pairs}


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
        at, key = self._wall_us(), addr.encode()
        known.add(at, key, what, listed)
        if not known.knows(key):
            known.first += b"%b %d\n" % (key, at)
            self._addresses += 1
        while len(self._ids) > _MOST_IDS or (self._addresses > _MOST_ADDRESSES and len(self._ids) > 1):
            _, dropped = self._ids.popitem(last=False)
            self._addresses -= dropped.count

    def of(self, discovery_id: str) -> Sequence[Told]:
        """The answers for an ID, the oldest first."""
        known = self._ids.get(discovery_id)
        return () if known is None else tuple(map(_told, known.answers.decode().splitlines()))

    def first(self, discovery_id: str, listed: Iterable[str]) -> Mapping[str, int]:
        """When addresses were first answered, in microseconds since 1970; those that are not listed are forgotten."""
        entry = self._ids.get(discovery_id)
        if entry is None:
            return {}
        known = entry.known
        kept = {addr: known[addr] for addr in listed if addr in known}
        if len(kept) < len(known):
            self._addresses -= len(known) - len(kept)
            entry.keep(kept)
        return kept

    def forget(self, discovery_id: str, addr: str) -> None:
        """An address was removed: what registers as it later is another node."""
        entry = self._ids.get(discovery_id)
        if entry is not None and entry.knows(addr.encode()):
            known = entry.known
            del known[addr]
            entry.keep(known)
            self._addresses -= 1


def _told(line: str) -> Told:
    at, listed, addr, what = line.split(" ", 3)
    return Told(at=int(at), addr=addr, what=what, listed=int(listed))
