"""Which records of a home changed after a version: what a delta is made of."""

from __future__ import annotations

import itertools
from collections import deque

MOST = 65_536


class ChangeLog:
    """The newest changes of one home, as pairs of version and key, and how far back they reach.

    All that the store holds of the home above `floor` is in the log.
    """

    def __init__(self, floor: int, most: int = MOST) -> None:
        self.floor = floor
        self._most = most
        self._changes: deque[tuple[int, bytes]] = deque()
        self._is_ordered = True

    def add(self, version: int, key: bytes) -> None:
        """The store has this version of the record now."""
        if self._changes and version < self._changes[-1][0]:
            # A peer filled a gap; a home's own changes always come in order.
            self._is_ordered = False
        self._changes.append((version, key))
        if len(self._changes) > self._most:
            self.floor = max(self.floor, self._changes.popleft()[0])

    def since(self, version: int, most: int | None = None) -> list[bytes] | None:
        """The keys of all that changed after `version`, each once; None if that is too long ago.

        With `most`, those of the newest so many changes only.
        """
        if version < self.floor:
            return None
        keys: dict[bytes, None] = {}
        for changed, key in itertools.islice(reversed(self._changes), most):
            if changed > version:
                keys[key] = None
            elif self._is_ordered:
                break
        return list(keys)
