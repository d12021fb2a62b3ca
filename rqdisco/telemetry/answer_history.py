"""Who was told what under an ID: the last answers of this daemon, and since when it knows each
address; in memory.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

MOST_ANSWERS = 20
_MOST_IDS = 10_000
# Of answers and addresses of all IDs; an ID takes about 300 bytes besides.
_MOST_BYTES = 12 << 20
_MOST_ADDRESSES_OF_ONE = 2048
# A digest of an address, and when it was first answered.
_ROW = struct.Struct("<qQ")
_DIGEST = struct.Struct("<q")


class PastAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer: `at` is in microseconds since 1970 by the wall clock, `listed` how many nodes it
    named.
    """

    at: int
    addr: str
    what: str
    listed: int


class _OfID:
    """Bytes, which take a third of the memory that objects would: `answers` are lines `AT LISTED
    ADDRESS WHAT`, and no address has white space, `first` are rows, one for each address.
    """

    __slots__ = ("answers", "count", "first")

    def __init__(self) -> None:
        self.answers = self.first = b""
        self.count = 0

    def add(self, at: int, addr: str, what: str, listed: int) -> None:
        line = f"{at} {listed} {addr} {what}\n".encode()
        if self.count < MOST_ANSWERS:
            self.answers += line
            self.count += 1
        else:
            self.answers = self.answers[self.answers.index(b"\n") + 1 :] + line
        if self.place(addr) < 0:
            # Where one daemon adds and another one removes, addresses pile up here.
            self.first = self.first[-_ROW.size * (_MOST_ADDRESSES_OF_ONE - 1) :] + _ROW.pack(hash(addr), at)

    def place(self, addr: str) -> int:
        """Where the row of an address begins; -1 if there is none."""
        place = self.first.find(_DIGEST.pack(hash(addr)))
        return place if place % _ROW.size == 0 else -1


class AnswerHistory:
    """The last answers for each of the IDs that were asked for last, and since when the last
    addresses of each are known.
    """

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self._wall_us = wall_us
        self._ids: OrderedDict[str, _OfID] = OrderedDict()
        self._size = 0

    def note(self, discovery_id: str, addr: str, what: str, listed: int) -> None:
        """An answer is about to be sent."""
        known = self._ids.get(discovery_id)
        if known is None:
            known = self._ids[discovery_id] = _OfID()
        else:
            self._ids.move_to_end(discovery_id)
            self._size -= len(known.answers) + len(known.first)
        known.add(self._wall_us(), addr, what, listed)
        self._size += len(known.answers) + len(known.first)
        while len(self._ids) > _MOST_IDS or (self._size > _MOST_BYTES and len(self._ids) > 1):
            _, dropped = self._ids.popitem(last=False)
            self._size -= len(dropped.answers) + len(dropped.first)

    def of(self, discovery_id: str) -> Sequence[PastAnswer]:
        """The answers for an ID, the oldest first."""
        known = self._ids.get(discovery_id)
        return () if known is None else tuple(map(_told, known.answers.decode().splitlines()))

    def first(self, discovery_id: str, listed: Iterable[str]) -> Mapping[str, int]:
        """When addresses were first answered, in microseconds since 1970; those that are not listed
        are forgotten.
        """
        entry = self._ids.get(discovery_id)
        if entry is None:
            return {}
        known = dict(_ROW.iter_unpack(entry.first))
        kept = {addr: known[hash(addr)] for addr in listed if hash(addr) in known}
        if len(kept) < len(known):
            self._keep(entry, b"".join(_ROW.pack(hash(addr), at) for addr, at in kept.items()))
        return kept

    def forget(self, discovery_id: str, addr: str) -> None:
        """An address was removed: what registers as it later is another node."""
        entry = self._ids.get(discovery_id)
        if entry is not None and (place := entry.place(addr)) >= 0:
            self._keep(entry, entry.first[:place] + entry.first[place + _ROW.size :])

    def _keep(self, entry: _OfID, first: bytes) -> None:
        self._size += len(first) - len(entry.first)
        entry.first = first


def _told(line: str) -> PastAnswer:
    at, listed, addr, what = line.split(" ", 3)
    return PastAnswer(at=int(at), addr=addr, what=what, listed=int(listed))
