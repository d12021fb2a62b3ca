"""Stamps of files, to notice that one changed without reading it."""

from __future__ import annotations

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
