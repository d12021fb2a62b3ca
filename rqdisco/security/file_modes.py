"""Who else on the machine may read or change a file that should be its owner's."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

_OTHERS_READ, _OTHERS_WRITE, _GROUP_WRITES = 0o004, 0o002, 0o020

_log = Logger()


def warn_of_others(path: Path, what: str) -> None:
    """Log a file that everybody may read, or that others than its owner may write. A group may read
    it: that may be how the daemon gets it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        # Who cannot read it either says so.
        return
    if mode & (_OTHERS_WRITE | _GROUP_WRITES):
        _log.warn("others may change the file of {what}: chmod 600", what=what, file=str(path))
    elif mode & _OTHERS_READ:
        _log.warn("everybody may read the file of {what}: chmod 600", what=what, file=str(path))
