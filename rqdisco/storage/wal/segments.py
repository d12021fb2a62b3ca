"""Write journal segments: blocking calls, made one at a time from the journal's thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rqdisco.core.errors import StoreUnavailable
from rqdisco.storage.disk_reserve import Reserve
from rqdisco.storage.files import FileSystem, Handle, is_no_room
from rqdisco.storage.wal.frames import FORMAT, VERSION, SegmentHeader, encode_frame

DIRECTORY = "journal"
_NAME = re.compile(r"([0-9]{10})\.journal\Z")


class JournalFailed(Exception):
    """A write or sync failed and the state of the disk is unknown: no change may be acknowledged
    any more.
    """


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The position at which the journal continues: the number of the next segment, and the CRC that
    its first frame chains to.
    """

    segment: int
    crc: int


def segment_path(directory: Path, number: int) -> Path:
    """Return the file of segment `number` in the state directory."""
    return directory / DIRECTORY / f"{number:010d}.journal"


def segment_numbers(fs: FileSystem, directory: Path) -> list[int]:
    """Return the numbers of the existing segments, in order."""
    names = fs.names(directory / DIRECTORY) if fs.exists(directory / DIRECTORY) else []
    return sorted(int(match[1]) for match in map(_NAME.match, names) if match)


class SegmentWriter:
    """Append batches to the newest segment, while the disk has more than its `reserve` free.

    A segment is created by the first write, so that a daemon also starts on a full disk. `size` is
    the number of bytes in the current segment.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        position: Position,
        boot: int,
        boot_id: str,
        reserve: Reserve | None = None,
    ) -> None:
        self._fs = fs
        self._reserve = reserve
        self._directory = directory
        self._boot, self._boot_id = boot, boot_id
        self._number, self._crc = position.segment, position.crc
        self._handle: Handle | None = None
        self.size = 0

    @property
    def sealed(self) -> int:
        """The newest segment that no longer changes, 0 if there is none."""
        return self._number - 1

    def commit(self, lines: Sequence[bytes]) -> None:
        """Return when `lines` are on the disk.

        Raises StoreUnavailable if there is no room and the journal is unchanged, JournalFailed for
        any other error.
        """
        if self._reserve is not None:
            self._reserve.check(sum(map(len, lines)))
        if self._handle is None:
            self._create_segment()
        self._append(lines)

    def seal(self) -> int:
        """End the current segment, so that the next batch begins a new one; return the newest
        sealed one.
        """
        if self._handle is not None:
            self._handle.close()
            self._handle, self.size, self._number = None, 0, self._number + 1
        return self.sealed

    @property
    def _path(self) -> Path:
        return segment_path(self._directory, self._number)

    def _create_segment(self) -> None:
        """Make the segment and its header durable before any record follows: data behind a frame
        proves that the frame was on the disk.
        """
        header = SegmentHeader(
            format=FORMAT, version=VERSION, segment=self._number, boot=self._boot, boot_id=self._boot_id
        )
        try:
            self._handle = self._fs.create(self._path)
        except OSError as error:
            raise self._classify(error) from error
        previous = self._crc
        try:
            self._append([msgspec.json.encode(header)])
            self._sync_name()
        except StoreUnavailable:
            self._crc, self.size = previous, 0
            self._discard_segment()
            raise

    def _sync_name(self) -> None:
        try:
            self._fs.sync_directory(self._path.parent)
        except OSError as error:
            raise self._classify(error) from error

    def _append(self, lines: Sequence[bytes]) -> None:
        assert self._handle is not None
        frame, crc = encode_frame(lines, self._crc)
        try:
            self._handle.write(frame)
        except OSError as error:
            self._undo_write()
            raise self._classify(error) from error
        try:
            self._handle.sync()
        except OSError as error:
            raise self._failure(error) from error
        self._crc, self.size = crc, self.size + len(frame)

    def _undo_write(self) -> None:
        """Cut off a frame that did not fit, so that the next one follows the last whole frame."""
        assert self._handle is not None
        try:
            self._handle.truncate(self.size)
            # The segment may be sealed next; a sealed segment must not have a torn end.
            self._handle.sync()
        except OSError as error:
            raise self._failure(error) from error

    def _discard_segment(self) -> None:
        assert self._handle is not None
        self._handle.close()
        self._handle = None
        try:
            self._fs.remove(self._path)
        except OSError as error:
            raise self._failure(error) from error

    def _classify(self, error: OSError) -> Exception:
        """Return the exception for a write that left the journal unchanged."""
        return StoreUnavailable((error.strerror or "no room").lower()) if is_no_room(error) else self._failure(error)

    def _failure(self, error: OSError) -> JournalFailed:
        return JournalFailed(f"{self._path}: {error.strerror}")
