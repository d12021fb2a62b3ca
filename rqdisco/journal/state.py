"""Opening a state directory: the lock, the identity, and what snapshot and journal hold."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from rqdisco.errors import DamagedState, StateInUse, StateUnusable
from rqdisco.ids import RandomBytes
from rqdisco.journal.files import FileSystem, may_pass
from rqdisco.journal.identity import NAME as IDENTITY
from rqdisco.journal.identity import establish
from rqdisco.journal.recovery import Recovered, recover
from rqdisco.journal.segments import DIRECTORY

LOCK = "lock"
_MANUAL = "see docs/operations.md"

_log = Logger()


def open_state(fs: FileSystem, directory: Path, random: RandomBytes) -> tuple[str, Recovered]:
    """Make `directory` this process's own; return its incarnation and what was found there.

    Raises CannotStart's kinds, each saying which file is at fault and what to do.
    """
    try:
        fs.make_directory(directory)
        if not fs.lock(directory / LOCK):
            raise StateInUse(f"{directory / LOCK}: another rqdisco runs on this directory; stop it, or use another one")
        if fs.exists(directory / IDENTITY) and not fs.exists(directory / DIRECTORY):
            raise DamagedState(f"{directory / DIRECTORY}: missing; put it back, or restore a backup ({_MANUAL})")
        fs.make_directory(directory / DIRECTORY)
        identity, is_new = establish(fs, directory, random)
        found = recover(fs, directory, is_backup=is_new)
    except OSError as error:
        remedy = "make room" if may_pass(error) else "name a directory that can be read and written"
        raise StateUnusable(f"{error.filename or directory}: {error.strerror}; {remedy}") from None
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
