"""What stays free on the disk: writes are refused before it is full, so that a snapshot can still
be folded.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from rqdisco.core.errors import StoreUnavailable
from rqdisco.storage.files import FileSystem

DEFAULT_BYTES = 64 << 20
DEFAULT_SHARE = 100
_CHECK_SECONDS = 1.0


class Reserve:
    """Looks whether the file system of `directory` has `least` bytes free: once a second, and more
    often where that is not much less than there is.

    By default that is 64 MiB, but a hundredth of a file system that is small; 0 is no reserve.
    `now` gives the seconds of a monotonic clock.
    """

    def __init__(self, fs: FileSystem, directory: Path, least: int | None, now: Callable[[], float]) -> None:
        self._fs = fs
        self._directory = directory
        self._least = least
        self._now = now
        self._looked: float | None = None
        self._enough = 0

    def check(self, size: int) -> None:
        """Called by the journal's thread before it writes so many bytes. Raises StoreUnavailable if
        less is free.
        """
        if self._least == 0:
            return
        now = self._now()
        self._enough -= size
        if self._looked is None or now - self._looked >= _CHECK_SECONDS or self._enough < 0:
            self._looked = None
            self._look()
            self._looked = now

    def _look(self) -> None:
        try:
            free, whole = self._fs.space(self._directory)
        except OSError:
            # Whether anything can be written, the write will tell.
            return
        least = min(DEFAULT_BYTES, whole // DEFAULT_SHARE) if self._least is None else self._least
        if free < least:
            full = os.strerror(errno.ENOSPC).lower()
            raise StoreUnavailable("what is left on the device is its reserve (--disk-reserve)" if free else full)
        # Others write to it too.
        self._enough = (free - least) // 2
