"""The versions of a daemon's own records."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.storage.memory import Store


class Versions:
    """Milliseconds of the wall clock, but always above every known version (R8). `wall_us` is in
    microseconds, `issued` the last version given out.
    """

    def __init__(self, store: Store, wall_us: Callable[[], int]) -> None:
        self._store = store
        self._wall_us = wall_us
        self.issued = 0

    def next(self) -> int:
        """Return a version for one more change."""
        self.issued = max(self._store.last_version + 1, self._wall_us() // 1000)
        return self.issued
