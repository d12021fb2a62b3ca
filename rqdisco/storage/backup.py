"""Backups: the records of a running daemon as of one moment, in one file.

The file is a document like the snapshot, with a header of its own. It is written from the newest
snapshot, which is brought up to date first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from rqdisco.core.codec import join_record
from rqdisco.core.errors import CannotStart, StoreUnavailable
from rqdisco.storage.files import FileSystem
from rqdisco.storage.snapshot import NAME as SNAPSHOT
from rqdisco.storage.snapshot import VERSION, RecordsReader, SnapshotHeader, SnapshotReader, encode_snapshot

FORMAT = "rqdisco backup"
# The snapshot that a backup is written from has this name too, so that compaction leaves its content
# alone.
LINK = "snapshot.backup.json"
_ADVICE = "make a new backup, or use an older one"
T = TypeVar("T")


class InThread(Protocol):
    """Runs a blocking call in a thread, after those before it; fires with its result."""

    def __call__(self, call: Callable[[], T]) -> Deferred[T]: ...


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: the moment, in UTC, the incarnation and the directory of the daemon; the rest
    is from the header of the snapshot. The versions are those of the snapshot.
    """

    format: str = FORMAT
    version: int = VERSION
    made_at: str
    incarnation: str
    directory: str
    boot: int
    boot_id: str
    last_version: int


class BackupReader(RecordsReader[BackupHeader]):
    """Reads the backup at `path`."""

    def __init__(self, fs: FileSystem, path: Path) -> None:
        super().__init__(fs, path, BackupHeader, FORMAT, VERSION, _ADVICE)


class Backup:
    """A backup that is being made. `parts` is its content; `close` ends it, complete or not."""

    def __init__(self, parts: Iterator[bytes], in_thread: InThread, close: Callable[[], None]) -> None:
        self._parts = parts
        self._in_thread = in_thread
        self._close = close

    async def parts(self) -> AsyncIterator[bytes]:
        """Iterate over the document in parts. Raises StoreUnavailable if the snapshot cannot be
        read.
        """
        while (part := await self._in_thread(self._next)) is not None:
            yield part

    async def close(self) -> None:
        """Give the snapshot free."""
        await self._in_thread(self._close)

    def _next(self) -> bytes | None:
        try:
            return next(self._parts, None)
        except (CannotStart, OSError) as error:
            raise StoreUnavailable(str(error)) from error


class Backups:
    """Makes backups of the daemon `incarnation`, one at a time. `compact` brings the snapshot up to
    date, `in_thread` runs what reads the disk, and `wall_us` returns the wall clock in microseconds
    since 1970.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        incarnation: str,
        compact: Callable[[], Deferred[None]],
        in_thread: InThread,
        wall_us: Callable[[], int],
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._incarnation = incarnation
        self._compact = compact
        self._in_thread = in_thread
        self._wall_us = wall_us

    async def begin(self) -> Backup:
        """Begin a backup that has everything acknowledged so far. Raises StoreUnavailable."""
        made_at = datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC)
        await self._compact()
        parts = await self._in_thread(partial(self._open, made_at.strftime("%Y-%m-%d %H:%M:%S")))
        return Backup(parts, self._in_thread, partial(discard_link, self._fs, self._directory))

    def _open(self, made_at: str) -> Iterator[bytes]:
        fs, directory = self._fs, self._directory
        try:
            discard_link(fs, directory)
            snapshot = None
            if fs.exists(directory / SNAPSHOT):
                fs.link(directory / SNAPSHOT, directory / LINK)
                snapshot = SnapshotReader(fs, directory / LINK)
        except (CannotStart, OSError) as error:
            raise StoreUnavailable(str(error)) from error
        # There is none before the first change.
        base = (
            SnapshotHeader(segment=0, crc=0, boot=0, boot_id="", last_version=0)
            if snapshot is None
            else snapshot.header
        )
        header = BackupHeader(
            made_at=made_at,
            incarnation=self._incarnation,
            directory=str(directory.absolute()),
            boot=base.boot,
            boot_id=base.boot_id,
            last_version=base.last_version,
        )
        records = () if snapshot is None else snapshot.records()
        return encode_snapshot(header, (join_record(key, rest) for key, rest in records))


def discard_link(fs: FileSystem, directory: Path) -> None:
    """Remove the second name of a snapshot, also one left by a daemon that was killed. Raises
    OSError.
    """
    if fs.exists(directory / LINK):
        fs.remove(directory / LINK)
