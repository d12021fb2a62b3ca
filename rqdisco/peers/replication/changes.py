"""Which records of a home changed after a version: what a delta is made of."""

from __future__ import annotations

from array import array

from rqdisco.peers.replication.packed import PackedKeys

MOST = 65_536
# So many are dropped at once, since all that is left has to be moved then.
_STEP = 16


class ChangeLog:
    """The newest changes of one home, as pairs of version and key, and how far back they reach.

    All that the store holds of the home above `floor` is in the log. A change takes 24 bytes.
    """

    def __init__(self, floor: int, most: int = MOST) -> None:
        self.floor = floor
        self._most = most
        self._versions = array("Q")
        self._keys = PackedKeys()
        self._is_ordered = True

    def add(self, version: int, key: bytes) -> None:
        """The store has this version of the record now."""
        if self._versions and version < self._versions[-1]:
            # A peer filled a gap; a home's own changes always come in order.
            self._is_ordered = False
        self._versions.append(version)
        self._keys.append(key)
        if len(self._versions) > self._most:
            self._drop(max(1, self._most // _STEP))

    def since(self, version: int, most: int | None = None) -> list[bytes] | None:
        """The keys of all that changed after `version`, each once; None if that is too long ago.

        With `most`, those of the newest so many changes only.
        """
        if version < self.floor:
            return None
        keys: dict[bytes, None] = {}
        end = len(self._versions)
        begin = 0 if most is None else max(0, end - most)
        for place in range(end - 1, begin - 1, -1):
            if self._versions[place] > version:
                keys[self._keys[place]] = None
            elif self._is_ordered:
                break
        return list(keys)

    def _drop(self, count: int) -> None:
        self.floor = max(self.floor, *self._versions[:count])
        del self._versions[:count]
        self._keys.cut(count)
