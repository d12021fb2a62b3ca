"""A file that lines are appended to, whoever moves it away meanwhile: blocking calls, made from a
thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_MODE = 0o640


class AuditFile:
    """The file at `path`, opened when it is needed. All methods may raise OSError, and may be
    called again then.

    `append` is the system's write, or what a test has in its place.
    """

    def __init__(self, path: Path, append: Callable[[int, bytes | memoryview], int] = os.write) -> None:
        self._path = path
        self._append = append
        self._fd: int | None = None
        self._is = (0, 0)
        self._is_another = False
        self._done = 0

    def write(self, lines: bytes) -> None:
        """Append whole lines. After an error it has to be called with the same ones, and goes on
        where it was.
        """
        if self._fd is None or self._is_elsewhere():
            self.reopen()
        if self._is_another:
            # A line that was begun in the file before is whole in this one.
            self._done, self._is_another = lines.rfind(b"\n", 0, self._done) + 1, False
        assert self._fd is not None
        rest = memoryview(lines)
        while self._done < len(lines):
            self._done += self._append(self._fd, rest[self._done :])
        self._done = 0

    def reopen(self) -> None:
        """Let go of the file, and open or make what has its name now."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        # Only now, or the new file could be taken for the old one by its number.
        self.close()
        found = os.fstat(fd)
        is_ = found.st_dev, found.st_ino
        self._is_another = self._is_another or is_ != self._is
        self._fd, self._is = fd, is_

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _is_elsewhere(self) -> bool:
        """Whether the file was moved or removed."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        except OSError:
            # What is open can still be written.
            return False
        return (there.st_dev, there.st_ino) != self._is
