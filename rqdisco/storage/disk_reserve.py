"""The disk reserve: writes are refused before the disk is full, so that a snapshot can still be
written.
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
    """Checks that the file system of `directory` has `least` bytes free: once a second, and more
    often when little more is free.

    The default is 64 MiB, or a hundredth of a small file system; 0 disables the reserve. `now`
    returns the seconds of a monotonic clock.
    """

    def __init__(self, fs: FileSystem, directory: Path, least: int | None, now: Callable[[], float]) -> None:
        self._fs = fs
        self._directory = directory
        self._least = least
        self._now = now
        self._checked_at: float | None = None
        # Bytes that may be written before the next check.
        self._allowance = 0

    def check(self, size: int) -> None:
        """Raise StoreUnavailable if less than the reserve is free. The journal's thread calls this
        before it writes `size` bytes.
        """
        if self._least == 0:
            return
        now = self._now()
        self._allowance -= size
        if self._checked_at is None or now - self._checked_at >= _CHECK_SECONDS or self._allowance < 0:
            self._checked_at = None
            self._measure()
            self._checked_at = now

    def _measure(self) -> None:
        try:
            free, whole = self._fs.space(self._directory)
        except OSError:
            # The write itself will fail if the disk does.
            return
        least = min(DEFAULT_BYTES, whole // DEFAULT_SHARE) if self._least is None else self._least
        if free < least:
            full = os.strerror(errno.ENOSPC).lower()
            raise StoreUnavailable("only the disk reserve is left (--disk-reserve)" if free else full)
        # Other processes write, too.
        self._allowance = (free - least) // 2
