"""Open a state directory: the lock, the identity, and the recovery of snapshot and journal."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from twisted.logger import Logger

from rqdisco.core.errors import DamagedState, StateInUse, StateUnusable
from rqdisco.core.ids import RandomBytes
from rqdisco.storage.backup import discard_link
from rqdisco.storage.files import FileSystem, is_no_room
from rqdisco.storage.identity import NAME as IDENTITY
from rqdisco.storage.identity import load_identity
from rqdisco.storage.snapshot import NAME as SNAPSHOT
from rqdisco.storage.snapshot import PREVIOUS_NAME
from rqdisco.storage.wal.recovery import Recovered, recover
from rqdisco.storage.wal.segments import DIRECTORY, segment_numbers, segment_path

LOCK = "lock"
_MAX_LOGGED = 10
_MANUAL = "see docs/operations.md"

_log = Logger()


def lock_directory(fs: FileSystem, directory: Path) -> None:
    """Create `directory` if needed, and lock it for this process. Raises StateInUse, StateUnusable."""
    try:
        fs.make_directory(directory)
        if not fs.lock(directory / LOCK):
            raise StateInUse(f"{directory / LOCK}: {_user(fs, directory / LOCK)}")
    except OSError as error:
        raise _unusable(directory, error) from None


def open_state(fs: FileSystem, directory: Path, random: RandomBytes) -> tuple[str, Recovered]:
    """Lock `directory` for this process; return its incarnation and what was recovered.

    Raises a subclass of CannotStart, which names the file and what to do.
    """
    lock_directory(fs, directory)
    try:
        if fs.exists(directory / IDENTITY) and not fs.exists(directory / DIRECTORY):
            raise DamagedState(f"{directory / DIRECTORY}: missing; put it back, or restore a backup ({_MANUAL})")
        fs.make_directory(directory / DIRECTORY)
        discard_link(fs, directory)
        identity, is_new = load_identity(fs, directory, random)
        if fs.link_count(directory / IDENTITY) > 1:
            _warn_about_links(fs, directory)
        found = recover(fs, directory, is_backup=is_new)
    except OSError as error:
        raise _unusable(directory, error) from None
    if found.cut is not None:
        _log.warn(
            "journal: cut {size} unacknowledged bytes off {path} at byte {offset}",
            path=found.cut.path,
            offset=found.cut.offset,
            size=found.cut.size,
        )
    if is_new and found.records:
        _log.warn(
            "records of another incarnation: their IDs are ownerless, nodes can join and none is told to bootstrap",
            ids=len(found.records),
            incarnation=identity.incarnation,
        )
    return identity.incarnation, found


def _unusable(directory: Path, error: OSError) -> StateUnusable:
    remedy = "make room" if is_no_room(error) else "name a directory that can be read and written"
    return StateUnusable(f"{error.filename or directory}: {error.strerror}; {remedy}")


def _user(fs: FileSystem, lock: Path) -> str:
    """Describe which process may hold the lock, and what to do."""
    names = fs.link_count(lock) if fs.exists(lock) else 1
    if names == 1:
        return "another rqdisco runs on this directory; stop it, or use another one"
    return (
        f"another rqdisco runs on this directory or on a hard-linked copy of it (this file has {names} names); stop it,"
        " or remove the file from the one where none runs"
    )


def _warn_about_links(fs: FileSystem, directory: Path) -> None:
    """Log the files with several links."""
    paths = [directory / name for name in (IDENTITY, LOCK, SNAPSHOT, PREVIOUS_NAME)]
    paths += [segment_path(directory, number) for number in segment_numbers(fs, directory)]
    counted = ((path.relative_to(directory), fs.link_count(path)) for path in paths if fs.exists(path))
    linked = (f"{path} ({names} names)" for path, names in counted if names > 1)
    _log.warn(
        "files have several hard links, as after a hard-linked backup: it is on the same disk and changes with them",
        files=", ".join(islice(linked, _MAX_LOGGED)),
    )
