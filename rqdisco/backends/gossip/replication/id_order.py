"""All IDs in the order in which they first came, so that whoever goes through them in parts can go
on where it was.
"""

from __future__ import annotations

from rqdisco.storage.memory import Store

_BITS = 32
_INDEX = (1 << _BITS) - 1
_FEWEST_GONE = 10_000


class IDOrder:
    """Gives out *places*: numbers that say where a part ended, 0 being the beginning.

    The order is another one after a restart, and once many IDs were forgotten: a place says in
    which one it is, by its `era`, a number that is made anew at each start; one of another order
    leads to the beginning, as nobody knows what came before it.
    """

    def __init__(self, store: Store, era: int) -> None:
        self._store = store
        self._era = era
        self._keys = store.keys_after(0)
        self._seen = len(self._keys)
        store.on_dropped.append(self._dropped)

    def follow(self) -> None:
        """Take in what came to the store."""
        came = self._store.keys_after(self._seen)
        self._seen += len(came)
        self._keys += came

    def part(self, place: int, most: int) -> tuple[list[bytes], int]:
        """Up to `most` IDs from a place on, and the place of the first of them as a number to add
        to.
        """
        begin = place & _INDEX if place >> _BITS == self._era else 0
        return self._keys[begin : begin + most], begin

    def after(self, begin: int, count: int) -> int:
        """The place where one goes on that has seen `count` IDs from `begin` on; 0 if those were
        the last.
        """
        end = begin + count
        return self._era << _BITS | end if end < len(self._keys) else 0

    def _dropped(self, keys: object) -> None:
        """Let go of IDs that are gone, once they are many: until then they are passed over."""
        if len(self._keys) - len(self._store) > max(_FEWEST_GONE, len(self._store)):
            self._keys = self._store.keys_after(0)
            self._era += 1
