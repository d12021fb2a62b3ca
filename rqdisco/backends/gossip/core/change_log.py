"""The bounded log of one owner's changes, which answers which keys changed after a version.

`Cursors` makes the deltas for peers from it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence

from rqdisco.backends.gossip.core.packed import PackedKeys

MAX_CHANGES = 65_536
# Changes are packed, and finally dropped, in parts of 1/256 of the whole.
_PARTS = 256


class _Part:
    """Consecutive changes, packed; `highest` is the highest version in this part and all before
    it.
    """

    __slots__ = ("highest", "keys", "versions")

    def __init__(self, versions: Sequence[int], keys: Sequence[bytes], highest: int) -> None:
        self.versions = array("Q", versions)
        self.keys = PackedKeys(keys)
        self.highest = highest


class ChangeLog:
    """The newest changes of one owner, as pairs of version and key; `floor` is how far back they
    reach.

    The log holds every stored record of the owner above `floor`. A change takes 24 bytes if its key
    is a UUID, else 10 bytes and its length; the newest, which are read most, take more.
    """

    def __init__(self, floor: int, max_changes: int = MAX_CHANGES) -> None:
        self.floor = floor
        self._max_changes = max_changes
        self._part_size = max(1, max_changes // _PARTS)
        self._parts: deque[_Part] = deque()
        self._packed = 0
        self._versions: list[int] = []
        self._keys: list[bytes] = []
        # Whether the unpacked changes are sorted by version. This daemon's own are; for another
        # owner's, a peer may fill a gap later.
        self._is_ordered = True
        self._highest = 0
        # Changes above this version are in the order of their versions.
        self._ordered_above = 0

    def add(self, version: int, key: bytes) -> None:
        """Add a change whose record the store now holds."""
        if version >= self._highest:
            self._highest = version
        else:
            self._is_ordered, self._ordered_above = False, self._highest
        self._versions.append(version)
        self._keys.append(key)
        if len(self._keys) >= self._part_size:
            self._pack()

    def since(self, version: int, limit: int | None = None) -> list[bytes] | None:
        """Return the distinct keys changed after `version`, None if that is below the floor.

        With `limit`, consider only that many of the newest changes.
        """
        if version < self.floor:
            return None
        keys: dict[bytes, None] = {}
        left = self._packed + len(self._keys) if limit is None else limit
        for at, key in self._backwards(version):
            if not left:
                break
            if at > version:
                keys[key] = None
            left -= 1
        return list(keys)

    def forwards(self, version: int) -> Iterator[tuple[int, bytes]] | None:
        """Return the changes after `version`, oldest first; None if it is below the floor, or they are
        not in order.
        """
        return None if version < max(self.floor, self._ordered_above) else self._forwards(version)

    def _forwards(self, version: int) -> Iterator[tuple[int, bytes]]:
        for part in self._parts:
            if part.highest > version:
                for at, key in zip(part.versions, part.keys.unpack(), strict=True):
                    if at > version:
                        yield at, key
        # The newest are read for each push.
        begin = bisect_right(self._versions, version) if self._is_ordered else 0
        for at, key in zip(self._versions[begin:], self._keys[begin:], strict=True):
            if at > version:
                yield at, key

    def _backwards(self, version: int) -> Iterator[tuple[int, bytes]]:
        """Yield changes, newest first, as far back as any may be after `version`."""
        for at, key in zip(reversed(self._versions), reversed(self._keys), strict=True):
            if self._is_ordered and at <= version:
                return
            yield at, key
        for part in reversed(self._parts):
            if part.highest <= version:
                return
            yield from zip(reversed(part.versions), reversed(part.keys.unpack()), strict=True)

    def _pack(self) -> None:
        self._parts.append(_Part(self._versions, self._keys, self._highest))
        self._packed += len(self._keys)
        self._versions, self._keys, self._is_ordered = [], [], True
        while self._packed > self._max_changes:
            oldest = self._parts.popleft()
            self._packed -= len(oldest.versions)
            self.floor = max(self.floor, *oldest.versions)
