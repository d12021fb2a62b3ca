"""Which records of a home changed after a version: what a delta is made of."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence

from rqdisco.backends.gossip.replication.packed import PackedKeys

MOST = 65_536
# All changes are packed, and dropped in the end, in so many parts.
_PARTS = 256


class _Part:
    """Changes that came one after the other; `reached` is the highest version in this part and all
    before it.
    """

    __slots__ = ("keys", "reached", "versions")

    def __init__(self, versions: Sequence[int], keys: Sequence[bytes], reached: int) -> None:
        self.versions = array("Q", versions)
        self.keys = PackedKeys(keys)
        self.reached = reached


class ChangeLog:
    """The newest changes of one home, as pairs of version and key, and how far back they reach.

    All that the store holds of the home above `floor` is in the log. A change takes 24 bytes where
    its key is a UUID, and 10 and its length where it is not; the newest, which are asked for most,
    take more.
    """

    def __init__(self, floor: int, most: int = MOST) -> None:
        self.floor = floor
        self._most = most
        self._at_once = max(1, most // _PARTS)
        self._parts: deque[_Part] = deque()
        self._packed = 0
        self._versions: list[int] = []
        self._keys: list[bytes] = []
        # Whether those are in the order of their versions: a home's own are, but of another's a
        # peer may fill a gap.
        self._is_ordered = True
        self._highest = 0

    def add(self, version: int, key: bytes) -> None:
        """The store has this version of the record now."""
        if version >= self._highest:
            self._highest = version
        else:
            self._is_ordered = False
        self._versions.append(version)
        self._keys.append(key)
        if len(self._keys) >= self._at_once:
            self._pack()

    def since(self, version: int, most: int | None = None) -> list[bytes] | None:
        """The keys of all that changed after `version`, each once; None if that is too long ago.

        With `most`, those of the newest so many changes only.
        """
        if version < self.floor:
            return None
        keys: dict[bytes, None] = {}
        left = self._packed + len(self._keys) if most is None else most
        for at, key in self._backwards(version):
            if not left:
                break
            if at > version:
                keys[key] = None
            left -= 1
        return list(keys)

    def _backwards(self, version: int) -> Iterator[tuple[int, bytes]]:
        """The changes, the newest first, as far back as there may be any after `version`."""
        for at, key in zip(reversed(self._versions), reversed(self._keys), strict=True):
            if self._is_ordered and at <= version:
                return
            yield at, key
        for part in reversed(self._parts):
            if part.reached <= version:
                return
            yield from zip(reversed(part.versions), reversed(part.keys.unpack()), strict=True)

    def _pack(self) -> None:
        self._parts.append(_Part(self._versions, self._keys, self._highest))
        self._packed += len(self._keys)
        self._versions, self._keys, self._is_ordered = [], [], True
        while self._packed > self._most:
            oldest = self._parts.popleft()
            self._packed -= len(oldest.versions)
            self.floor = max(self.floor, *oldest.versions)
