"""A disk that measures the duration of its syncs, in the thread that waits for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rqdisco.storage.files import Disk, Handle
from rqdisco.telemetry.counters import Histogram


class TimedDisk(Disk):
    """The real file system; `seconds` is a monotonic clock, `syncs` observes the duration of each
    sync.
    """

    def __init__(self, seconds: Callable[[], float], syncs: Histogram) -> None:
        self._seconds = seconds
        self._syncs = syncs

    def create(self, path: Path) -> Handle:
        return _Timed(super().create(path), self._seconds, self._syncs)


class _Timed:
    def __init__(self, handle: Handle, seconds: Callable[[], float], syncs: Histogram) -> None:
        self.write = handle.write
        self.truncate = handle.truncate
        self.close = handle.close
        self._sync = handle.sync
        self._seconds = seconds
        self._syncs = syncs

    def sync(self) -> None:
        since = self._seconds()
        self._sync()
        self._syncs.observe(self._seconds() - since)
