"""The versions of a daemon's own records."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.storage.memory import Store


class Versions:
    """Gives out milliseconds of the wall clock, `wall_us` being in microseconds, but never one that
    was known before (R8). `issued` is the last one.
    """

    def __init__(self, store: Store, wall_us: Callable[[], int]) -> None:
        self._store = store
        self._wall_us = wall_us
        self.issued = 0

    def next(self) -> int:
        """A version for one more change."""
        self.issued = max(self._store.last_version + 1, self._wall_us() // 1000)
        return self.issued
