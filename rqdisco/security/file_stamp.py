"""Stamps of files, to notice that one changed without reading it."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

Stamp = tuple[int, ...]


def file_stamp(path: Path) -> Stamp | None:
    """Return a value that changes when the file is written or replaced, or when its mode or owner
    changes, which may let it be read again; None if it cannot be found.

    A time of modification can be set back, as by `cp -p`; the time of change cannot.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def check_regular(path: Path) -> None:
    """Raise OSError unless a path is that of a regular file: to read a pipe or a device that took its
    place would stop a running daemon.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
