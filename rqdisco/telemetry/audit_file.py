"""A file that lines are appended to, even if it is moved away meanwhile. Its calls block."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_MODE = 0o640


class AuditFile:
    """The file at `path`, opened when needed. Every method may raise OSError, and may be called
    again after that. `append` is the system's write.
    """

    def __init__(self, path: Path, append: Callable[[int, bytes | memoryview], int] = os.write) -> None:
        self._path = path
        self._append = append
        self._fd: int | None = None
        self._identity = (0, 0)
        self._was_replaced = False
        self._done = 0

    def write(self, lines: bytes) -> None:
        """Append whole lines. After an error, call it with the same lines; it continues where it
        stopped.
        """
        if self._fd is None or self._was_moved():
            self.reopen()
        if self._was_replaced:
            # A line that was begun in the previous file is written whole to this one.
            self._done, self._was_replaced = lines.rfind(b"\n", 0, self._done) + 1, False
        assert self._fd is not None
        rest = memoryview(lines)
        while self._done < len(lines):
            self._done += self._append(self._fd, rest[self._done :])
        self._done = 0

    def reopen(self) -> None:
        """Open the file at the path now, creating it if needed, and close the previous one."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        # Not earlier, or the new file could get the inode number of the previous one.
        self.close()
        status = os.fstat(fd)
        identity = status.st_dev, status.st_ino
        self._was_replaced = self._was_replaced or identity != self._identity
        self._fd, self._identity = fd, identity

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _was_moved(self) -> bool:
        """Report whether the open file was moved or removed."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        except OSError:
            # The open file can still be written.
            return False
        return (status.st_dev, status.st_ino) != self._identity
