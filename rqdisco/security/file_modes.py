"""Checks whether other users may read or write a secret file."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

_OTHERS_READ, _OTHERS_WRITE, _GROUP_WRITES = 0o004, 0o002, 0o020

_log = Logger()


def warn_of_loose_mode(path: Path, what: str) -> None:
    """Log a warning if every user may read the file, or any but its owner may write it. The group
    may read it: that may be how the daemon gets access.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        # Reading it reports the error.
        return
    if mode & (_OTHERS_WRITE | _GROUP_WRITES):
        _log.warn("file of {what} is writable by other users; set mode 600", what=what, file=str(path))
    elif mode & _OTHERS_READ:
        _log.warn("file of {what} is readable by every user; set mode 600", what=what, file=str(path))
