"""Backups: the records of a running daemon as of one moment, in one file.

The file is a document like the snapshot, with a header of its own. It is written from the newest
snapshot, which is brought up to date first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.core.codec import join_record
from rqdisco.core.errors import CannotStart, StoreUnavailable
from rqdisco.limits.slots import Slots
from rqdisco.storage.files import FileSystem
from rqdisco.storage.identity import is_incarnation
from rqdisco.storage.snapshot import NAME as SNAPSHOT
from rqdisco.storage.snapshot import VERSION, RecordsReader, SnapshotHeader, SnapshotReader, encode_snapshot

FORMAT = "rqdisco backup"
# The snapshot that a backup is written from has this name too, so that compaction leaves its content
# alone.
LINK = "snapshot.backup.json"
_PATIENCE_SECONDS = 5.0
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
        if not is_incarnation(self.header.incarnation):
            raise self._damaged("line 1: not an incarnation")
        if "\0" in self.header.directory:
            raise self._damaged("line 1: not a directory")


class Backups:
    """Makes backups of the daemon `incarnation`, one at a time; another one waits for five seconds.

    `compact` brings the snapshot up to date, `in_thread` runs what reads the disk, and `wall_us`
    returns the wall clock in microseconds since 1970.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        incarnation: str,
        compact: Callable[[], Deferred[None]],
        in_thread: InThread,
        clock: IReactorTime,
        wall_us: Callable[[], int],
    ) -> None:
        self._slot = Slots(1, _PATIENCE_SECONDS, clock)
        self._fs = fs
        self._directory = directory
        self._incarnation = incarnation
        self._compact = compact
        self._in_thread = in_thread
        self._wall_us = wall_us

    @asynccontextmanager
    async def make(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the parts of a backup that has everything acknowledged so far. Raises TooBusy,
        StoreUnavailable; the parts raise the latter.
        """
        async with self._slot.take():
            made_at = datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            await self._compact()
            try:
                yield self._parts(await self._in_thread(partial(self._open, made_at)))
            finally:
                await self._in_thread(partial(discard_link, self._fs, self._directory))

    async def _parts(self, document: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (part := await self._in_thread(partial(_next_part, document))) is not None:
            yield part

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


def _next_part(document: Iterator[bytes]) -> bytes | None:
    try:
        return next(document, None)
    except (CannotStart, OSError) as error:
        raise StoreUnavailable(str(error)) from error


def discard_link(fs: FileSystem, directory: Path) -> None:
    """Remove the second name of a snapshot, also one left by a daemon that was killed. Raises
    OSError.
    """
    if fs.exists(directory / LINK):
        fs.remove(directory / LINK)
