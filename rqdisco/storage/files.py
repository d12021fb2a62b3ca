"""The file operations that durability rests on; tests put a disk in their place that fills up,
fails and crashes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_GET_VERSION = 0x80087601  # FS_IOC_GETVERSION of linux/fs.h, on 64 bits


def may_pass(error: OSError) -> bool:
    """Whether `error` says that there is no room, on the disk or for another file, rather than that
    the disk fails.
    """
    return error.errno in _MAY_PASS


class Handle(Protocol):
    """A file open for appending. All methods raise OSError."""

    def write(self, data: bytes) -> None:
        """Append all of `data`, or raise with some of it written."""

    def sync(self) -> None:
        """Return when data and size are on the disk. After it raised, nothing is known of what was
        written.
        """

    def truncate(self, size: int) -> None:
        """Cut the file; the next write goes there."""

    def close(self) -> None:
        """Let go of the file, synced or not."""


class FileSystem(Protocol):
    """What the journal asks of a disk. All methods raise OSError; paths are Path throughout."""

    def make_directory(self, path: Path) -> None:
        """Make the directory and those above it, durably and readable by their owner alone, unless
        they are there.
        """

    def names(self, path: Path) -> list[str]:
        """What the directory holds."""

    def exists(self, path: Path) -> bool:
        """Whether there is a file or directory of that name."""

    def create(self, path: Path) -> Handle:
        """A new, empty file; FileExistsError if there is one."""

    def open(self, path: Path) -> Handle:
        """An existing file, positioned at its end."""

    def read(self, path: Path) -> bytes:
        """All of a file."""

    def lines(self, path: Path) -> Iterator[bytes]:
        """The lines of a file with their ends, never the whole file in memory."""

    def forget_cached(self, path: Path) -> None:
        """Make the next read of the file come from the disk itself.

        After a failed write-back Linux may hold pages in memory as clean that the disk never got.
        """

    def size(self, path: Path) -> int:
        """The bytes in a file."""

    def inode(self, path: Path) -> str:
        """What a copy of the file or directory would not share."""

    def names_of(self, path: Path) -> int:
        """How many names the file has."""

    def link(self, path: Path, name: Path) -> None:
        """Give the file a second name."""

    def rename(self, path: Path, to: Path) -> None:
        """Rename, replacing what has the new name in one step."""

    def remove(self, path: Path) -> None:
        """Remove a file; FileNotFoundError if there is none."""

    def lock(self, path: Path) -> bool:
        """Take the lock that one process at a time holds; False if another has it. It lasts as long
        as the process.
        """

    def space(self, path: Path) -> tuple[int, int]:
        """How many bytes the file system of `path` has free for this process, and how many it
        has.
        """

    def sync_directory(self, path: Path) -> None:
        """Return when names made, changed and removed in the directory are on the disk."""


class _File:
    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        os.close(self._fd)


class Disk:
    """The real file system."""

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            self.make_directory(path.parent)
            path.mkdir(mode=0o700)
            self.sync_directory(path.parent)

    def names(self, path: Path) -> list[str]:
        return os.listdir(path)

    def exists(self, path: Path) -> bool:
        """A file that cannot be looked at is there: taken for absent, it would be written anew."""
        try:
            path.lstat()
        except FileNotFoundError:
            return False
        return True

    def create(self, path: Path) -> Handle:
        return _File(path, os.O_CREAT | os.O_EXCL)

    def open(self, path: Path) -> Handle:
        return _File(path, 0)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def lines(self, path: Path) -> Iterator[bytes]:
        with path.open("rb", buffering=1 << 20) as file:
            yield from file

    def forget_cached(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def inode(self, path: Path) -> str:
        """Number and generation: a number alone is given to a new file as soon as the old one is
        removed.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            generation = fcntl.ioctl(fd, _GET_VERSION, bytes(8))
            return f"{os.fstat(fd).st_ino}.{int.from_bytes(generation[:4], sys.byteorder)}"
        except OSError:
            return str(os.fstat(fd).st_ino)
        finally:
            os.close(fd)

    def names_of(self, path: Path) -> int:
        return path.stat().st_nlink

    def link(self, path: Path, name: Path) -> None:
        os.link(path, name)

    def rename(self, path: Path, to: Path) -> None:
        os.replace(path, to)

    def remove(self, path: Path) -> None:
        path.unlink()

    def space(self, path: Path) -> tuple[int, int]:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> bool:
        # The descriptor stays open until the process ends, through the fork of a daemon too.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        return True
