"""All IDs in order of arrival, so that a scan in parts can resume where it stopped."""

from __future__ import annotations

from rqdisco.storage.memory import Store

_BITS = 32
_INDEX = (1 << _BITS) - 1
_MIN_DROPPED = 10_000


class IDOrder:
    """Issues *positions*: numbers that mark where a part ended, 0 being the beginning.

    The order changes with a restart, and once many IDs have been dropped. A position carries the
    `era` of its order, a new number at each start; one of another order leads to the beginning,
    since what came before it is unknown.
    """

    def __init__(self, store: Store, era: int) -> None:
        self._store = store
        self._era = era
        self._keys = store.keys_after(0)
        self._seen = len(self._keys)

    def append_new(self) -> None:
        """Append the IDs added to the store, and forget those deleted once they are many."""
        new = self._store.keys_after(self._seen)
        self._seen += len(new)
        self._keys += new
        if len(self._keys) - len(self._store) > max(_MIN_DROPPED, len(self._store)):
            self._keys = self._store.keys_after(0)
            self._era += 1

    def part(self, position: int, limit: int) -> tuple[list[bytes], int]:
        """Return up to `limit` IDs from a position on, and the index of the first."""
        begin = position & _INDEX if position >> _BITS == self._era else 0
        return self._keys[begin : begin + limit], begin

    def after(self, begin: int, count: int) -> int:
        """Return the position after `count` IDs from index `begin` on; 0 if those were the last."""
        end = begin + count
        return self._era << _BITS | end if end < len(self._keys) else 0
