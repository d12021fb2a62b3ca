"""The file operations that durability depends on. Tests replace them by a disk that fills up, fails
and crashes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_GET_VERSION = 0x80087601  # FS_IOC_GETVERSION of linux/fs.h, on 64 bits


def is_no_room(error: OSError) -> bool:
    """Report whether there is no room, on the disk or for another open file, rather than a failing
    disk.
    """
    return error.errno in _NO_ROOM


class Handle(Protocol):
    """A file open for appending. All methods raise OSError."""

    def write(self, data: bytes) -> None:
        """Append all of `data`, or raise with some of it written."""

    def sync(self) -> None:
        """Return when data and size are on the disk. If it raises, the state of the file is
        unknown.
        """

    def truncate(self, size: int) -> None:
        """Cut the file; the next write appends there."""

    def close(self) -> None:
        """Close the file, synced or not."""


class FileSystem(Protocol):
    """A file system. All methods raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Create the directory and its parents, if missing, durably and with access for their user
        alone.
        """

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory."""

    def exists(self, path: Path) -> bool:
        """Report whether a file or directory of that name exists."""

    def create(self, path: Path) -> Handle:
        """Create an empty file. Raises FileExistsError."""

    def open(self, path: Path) -> Handle:
        """Open an existing file for appending."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""

    def lines(self, path: Path) -> Iterator[bytes]:
        """Iterate over the lines of a file, with their ends, without reading all of it into
        memory.
        """

    def drop_cache(self, path: Path) -> None:
        """Make the next read of the file come from the disk.

        After a failed write-back Linux may keep clean pages in memory that the disk never received.
        """

    def size(self, path: Path) -> int:
        """Return the size of a file in bytes."""

    def inode(self, path: Path) -> str:
        """Return an identifier of the file or directory that a copy would not share."""

    def link_count(self, path: Path) -> int:
        """Return the number of hard links to the file."""

    def link(self, path: Path, name: Path) -> None:
        """Create a hard link."""

    def rename(self, path: Path, to: Path) -> None:
        """Rename atomically, replacing any file of the new name."""

    def remove(self, path: Path) -> None:
        """Remove a file. Raises FileNotFoundError."""

    def lock(self, path: Path) -> bool:
        """Take an exclusive lock for the life of the process; return False if another process holds
        it.
        """

    def space(self, path: Path) -> tuple[int, int]:
        """Return the bytes that this process may still write to the file system of `path`, and its
        size.
        """

    def sync_directory(self, path: Path) -> None:
        """Return when all changes of names in the directory are on the disk."""


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
        """Report a file that cannot be accessed as existing, or it would be created anew."""
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

    def drop_cache(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def inode(self, path: Path) -> str:
        """Return inode number and generation: the number alone is reused once a file is removed."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            generation = fcntl.ioctl(fd, _GET_VERSION, bytes(8))
            return f"{os.fstat(fd).st_ino}.{int.from_bytes(generation[:4], sys.byteorder)}"
        except OSError:
            return str(os.fstat(fd).st_ino)
        finally:
            os.close(fd)

    def link_count(self, path: Path) -> int:
        return path.stat().st_nlink

    def link(self, path: Path, name: Path) -> None:
        os.link(path, name)

    def rename(self, path: Path, to: Path) -> None:
        os.replace(path, to)

    def remove(self, path: Path) -> None:
        path.unlink()

    def space(self, path: Path) -> tuple[int, int]:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> bool:
        # The descriptor stays open until the process ends, also across the fork of a daemon.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        return True
