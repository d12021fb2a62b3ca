"""The last answers of this daemon for each ID, and since when it knows each address; in memory."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

MOST_ANSWERS = 20
_MOST_IDS = 10_000
# For the answers and addresses of all IDs; each ID takes about 300 bytes more.
_MOST_BYTES = 12 << 20
_MOST_ADDRESSES_OF_ONE = 2048
# The hash of an address, and when it was first answered.
_ROW = struct.Struct("<qQ")
_DIGEST = struct.Struct("<q")


class PastAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer: `at` is microseconds since 1970 by the wall clock, `listed` the number of nodes
    in it.
    """

    at: int
    addr: str
    what: str
    listed: int


class _Entry:
    """The history of one ID, as bytes, which take a third of the memory of objects.

    `answers` has lines `AT LISTED ADDRESS WHAT`; no address contains white space. `first` has a row
    for each address.
    """

    __slots__ = ("answers", "count", "first")

    def __init__(self) -> None:
        self.answers = self.first = b""
        self.count = 0

    def add(self, at: int, addr: str, what: str, listed: int) -> int:
        """Add an answer; return how many bytes the entry has grown."""
        line = f"{at} {listed} {addr} {what}\n".encode()
        grown = len(line)
        if self.count < MOST_ANSWERS:
            self.answers += line
            self.count += 1
        else:
            oldest = self.answers.index(b"\n") + 1
            self.answers = self.answers[oldest:] + line
            grown -= oldest
        if self.find(addr) >= 0:
            return grown
        if len(self.first) < _MOST_ADDRESSES_OF_ONE * _ROW.size:
            self.first += _ROW.pack(hash(addr), at)
            return grown + _ROW.size
        # Where one daemon adds nodes and another one removes them, addresses pile up here.
        self.first = self.first[_ROW.size :] + _ROW.pack(hash(addr), at)
        return grown

    def find(self, addr: str) -> int:
        """Return where the row of an address begins; -1 if there is none."""
        start = self.first.find(_DIGEST.pack(hash(addr)))
        return start if start % _ROW.size == 0 else -1


class AnswerHistory:
    """The last answers for each of the IDs requested most recently, and when their addresses were
    first answered. `wall_us` returns the wall clock in microseconds since 1970.
    """

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self._wall_us = wall_us
        self._ids: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0

    def note(self, discovery_id: str, addr: str, what: str, listed: int) -> None:
        """Record an answer that is about to be sent."""
        entry = self._ids.get(discovery_id)
        if entry is None:
            entry = self._ids[discovery_id] = _Entry()
        else:
            self._ids.move_to_end(discovery_id)
        self._size += entry.add(self._wall_us(), addr, what, listed)
        while len(self._ids) > _MOST_IDS or (self._size > _MOST_BYTES and len(self._ids) > 1):
            _, dropped = self._ids.popitem(last=False)
            self._size -= len(dropped.answers) + len(dropped.first)

    def of(self, discovery_id: str) -> Sequence[PastAnswer]:
        """Return the answers for an ID, the oldest first."""
        entry = self._ids.get(discovery_id)
        return () if entry is None else tuple(map(_parse_answer, entry.answers.decode().splitlines()))

    def first(self, discovery_id: str, listed: Iterable[str]) -> Mapping[str, int]:
        """Return when each listed address was first answered, in microseconds since 1970; forget
        the others.
        """
        entry = self._ids.get(discovery_id)
        if entry is None:
            return {}
        known = dict(_ROW.iter_unpack(entry.first))
        kept = {addr: known[hash(addr)] for addr in listed if hash(addr) in known}
        if len(kept) < len(known):
            self._replace_first(entry, b"".join(_ROW.pack(hash(addr), at) for addr, at in kept.items()))
        return kept

    def forget(self, discovery_id: str, addr: str) -> None:
        """Forget a removed address: a node that registers it later is another one."""
        entry = self._ids.get(discovery_id)
        if entry is not None and (start := entry.find(addr)) >= 0:
            self._replace_first(entry, entry.first[:start] + entry.first[start + _ROW.size :])

    def _replace_first(self, entry: _Entry, first: bytes) -> None:
        self._size += len(first) - len(entry.first)
        entry.first = first


def _parse_answer(line: str) -> PastAnswer:
    at, listed, addr, what = line.split(" ", 3)
    return PastAnswer(at=int(at), addr=addr, what=what, listed=int(listed))
