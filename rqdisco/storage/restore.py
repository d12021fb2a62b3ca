"""Make a state directory from a backup, while no daemon runs on it."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import msgspec

from rqdisco.core.codec import is_metadata, join_record
from rqdisco.core.errors import StateInUse, StateUnusable
from rqdisco.storage.backup import BackupHeader, BackupReader
from rqdisco.storage.files import FileSystem
from rqdisco.storage.identity import create_identity, is_original
from rqdisco.storage.snapshot import NAME as SNAPSHOT
from rqdisco.storage.snapshot import SnapshotHeader, encode_snapshot, write_document
from rqdisco.storage.state_directory import LOCK
from rqdisco.storage.wal.segments import DIRECTORY

# A file system of its own may have this at its root.
_IGNORED = {"lost+found"}


class BackupContents(msgspec.Struct, frozen=True):
    """The header of a backup, and the number of IDs in it."""

    header: BackupHeader
    ids: int


def check_backup(fs: FileSystem, path: Path) -> BackupContents:
    """Read a backup to its end. Raises DamagedState, UnknownFormat, OSError."""
    reader = BackupReader(fs, path)
    return BackupContents(reader.header, sum(not is_metadata(key) for key, _ in reader.records()))


def check_target(fs: FileSystem, directory: Path) -> None:
    """Raise StateUnusable unless `directory` is empty or does not exist; OSError."""
    if fs.exists(directory):
        _check_empty(fs, directory, _IGNORED)


def _check_empty(fs: FileSystem, directory: Path, ignored: Set[str]) -> None:
    if set(fs.names(directory)) - ignored:
        raise StateUnusable(f"{directory}: not empty; move it away, or name another directory")


def check_original_is_gone(fs: FileSystem, header: BackupHeader) -> None:
    """Raise StateUnusable if the directory of the original is still in its place on this
    machine.
    """
    if is_original(fs, Path(header.directory), header.incarnation):
        raise StateUnusable(
            f"{header.directory}: the original is still there; run that one, or remove it if it is not to run again"
        )


def restore_backup(fs: FileSystem, path: Path, directory: Path, incarnation: str) -> None:
    """Make `directory` the state directory of `incarnation`, with the records of a backup.

    The journal's directory comes last: a daemon refuses to start without it, so nothing runs on an
    incomplete copy. Raises DamagedState, UnknownFormat, StateInUse, StateUnusable, OSError.
    """
    check_target(fs, directory)
    fs.make_directory(directory)
    if not fs.lock(directory / LOCK):
        raise StateInUse(f"{directory / LOCK}: a daemon runs on this directory; stop it, or name another directory")
    # Another restore, or a daemon, may have come and gone since.
    _check_empty(fs, directory, _IGNORED | {LOCK})
    create_identity(fs, directory, incarnation)
    _write_snapshot(fs, path, directory)
    fs.make_directory(directory / DIRECTORY)


def _write_snapshot(fs: FileSystem, path: Path, directory: Path) -> None:
    reader = BackupReader(fs, path)
    backup = reader.header
    # The journal begins anew: no segment is in this snapshot.
    header = SnapshotHeader(
        segment=0, crc=0, boot=backup.boot, boot_id=backup.boot_id, last_version=backup.last_version
    )
    new = directory / f"{SNAPSHOT}.new"
    write_document(fs, new, encode_snapshot(header, (join_record(key, rest) for key, rest in reader.records())))
    fs.rename(new, directory / SNAPSHOT)
    fs.sync_directory(directory)
