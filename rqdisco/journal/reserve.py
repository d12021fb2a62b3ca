"""What stays free on the disk: writes are refused before it is full, so that a snapshot can still be folded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rqdisco.errors import StoreUnavailable
from rqdisco.journal.files import FileSystem

DEFAULT_BYTES = 64 << 20
DEFAULT_SHARE = 100
_CHECK_SECONDS = 1.0


class Reserve:
    """Looks, once a second at most, whether the file system of `directory` has `least` bytes free.

    By default that is 64 MiB, but a hundredth of a file system that is small; 0 is no reserve. `now` gives the seconds
    of a monotonic clock.
    """

    def __init__(self, fs: FileSystem, directory: Path, least: int | None, now: Callable[[], float]) -> None:
        self._fs = fs
        self._directory = directory
        self._least = least
        self._now = now
        self._checked: float | None = None
        self._is_low = False

    def check(self) -> None:
        """Called by the journal's thread. Raises StoreUnavailable if less is free."""
        if self._least == 0:
            return
        now = self._now()
        if self._checked is None or now - self._checked >= _CHECK_SECONDS:
            self._checked = now
            self._is_low = self._look()
        if self._is_low:
            raise StoreUnavailable("the disk is full but for its reserve (--disk-reserve)")

    def _look(self) -> bool:
        try:
            free, size = self._fs.space(self._directory)
        except OSError:
            # Whether anything can be written, the write will tell.
            return False
        return free < (min(DEFAULT_BYTES, size // DEFAULT_SHARE) if self._least is None else self._least)
