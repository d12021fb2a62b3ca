"""Opening a state directory: the lock, the identity, and what snapshot and journal hold."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from rqdisco.errors import StateInUse, StateUnusable
from rqdisco.identity import RandomBytes, establish
from rqdisco.journal.files import FileSystem
from rqdisco.journal.recovery import Recovered, recover
from rqdisco.journal.segments import DIRECTORY

LOCK = "lock"

_log = Logger()


def open_state(fs: FileSystem, directory: Path, random: RandomBytes) -> tuple[str, Recovered]:
    """Make `directory` this process's own; return its incarnation and what was found there.

    Raises CannotStart's kinds, each saying which file is at fault and what to do.
    """
    try:
        fs.make_directory(directory)
        if not fs.lock(directory / LOCK):
            raise StateInUse(f"{directory / LOCK}: another rqdisco runs on this directory; stop it, or use another one")
        fs.make_directory(directory / DIRECTORY)
        identity, is_new = establish(fs, directory, random)
        found = recover(fs, directory)
    except OSError as error:
        raise StateUnusable(f"{error.filename or directory}: {error.strerror}; make it readable and writable") from None
    if found.cut is not None:
        _log.warn(
            "journal: cut {size} bytes that were never acknowledged off {path} at byte {offset}",
            path=found.cut.path,
            offset=found.cut.offset,
            size=found.cut.size,
        )
    if is_new and found.records:
        _log.warn(
            "the records are another incarnation's: their IDs are listed and joined, and none will seed a cluster",
            ids=len(found.records),
            incarnation=identity.incarnation,
        )
    return identity.incarnation, found
