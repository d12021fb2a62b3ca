"""Recovery of the snapshot and the journal when a daemon starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from rqdisco.core.codec import (
    Malformed,
    decode_stored_metadata,
    decode_version,
    decode_versioned,
    is_metadata,
    split_record,
)
from rqdisco.core.errors import DamagedState
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.storage.files import FileSystem
from rqdisco.storage.snapshot import NAME, PREVIOUS_NAME, SnapshotReader
from rqdisco.storage.wal.frames import FORMAT, VERSION, Broken, SegmentHeader, read_frames
from rqdisco.storage.wal.segments import Position, segment_numbers, segment_path

_BOOT_BYTES = 6
_BACKUP = "restore a backup (see docs/operations.md)"


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """The torn end of the last segment, cut off since it was never acknowledged."""

    path: str
    offset: int
    size: int


class Recovered(msgspec.Struct, kw_only=True):
    """The result of recovery: the records as the store keeps them, where the journal continues, and
    the newest boot in it.

    `metadata` has the same form as `records`; `compacted` is the last segment in the snapshot.
    """

    records: dict[bytes, bytes]
    metadata: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    last_version: int = 0
    position: Position = Position(segment=1, crc=0)
    boot: int = 0
    boot_id: str = ""
    cut: Cut | None = None
    compacted: int = 0

    def boot_number(self, boot_id: str) -> int:
        """Return the number of the boot that the kernel calls `boot_id`: the one on this disk, or
        one derived from the name.

        If boots were counted, a restored disk would reuse the number of a boot that it does not
        know, and grants recovered from peers would seem to be as young as the machine (R8).
        """
        if self.boot_id == boot_id:
            return self.boot
        return int.from_bytes(sha256(boot_id.encode()).digest()[:_BOOT_BYTES], "big")

    @property
    def changed(self) -> bool:
        """Report whether the journal has segments that are not in the snapshot."""
        return self.position.segment - 1 > self.compacted


def recover(fs: FileSystem, directory: Path, *, is_backup: bool = False) -> Recovered:
    """Read the snapshot and the journal after it.

    Compaction keeps the last segment that is in the snapshot, so it must exist, except in a backup.
    Cuts off a torn end of the last segment. Raises DamagedState for any other damage,
    UnknownFormat, OSError.
    """
    recovered = Recovered(records={})
    numbers = segment_numbers(fs, directory)
    if fs.exists(directory / NAME):
        _read_snapshot(fs, directory / NAME, recovered)
    elif fs.exists(directory / PREVIOUS_NAME):
        raise DamagedState(f"{directory / NAME}: missing; put {PREVIOUS_NAME} in its place (nothing is lost by that)")
    if recovered.compacted and recovered.compacted not in numbers and not is_backup:
        raise DamagedState(f"{segment_path(directory, recovered.compacted)}: missing; put it back, or {_BACKUP}")
    numbers = [number for number in numbers if number >= recovered.position.segment]
    replay(fs, directory, numbers[:-1], recovered)
    if numbers:
        _repair_end(fs, segment_path(directory, numbers[-1]), recovered)
        replay(fs, directory, numbers[-1:], recovered)
    watermarks = ExpiryWatermarks(decode_stored_metadata(key, rest) for key, rest in recovered.metadata.items())
    if not watermarks.is_empty:
        recovered.records = {
            key: rest for key, rest in recovered.records.items() if not watermarks.covers_line(key, rest)
        }
    return recovered


def without_deleted(lines: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Leave out empty metadata and expired IDs from lines in the order of their keys, metadata
    first.
    """
    watermarks = ExpiryWatermarks()
    for key, rest in lines:
        if is_metadata(key):
            metadata = decode_stored_metadata(key, rest)
            watermarks.learn(metadata)
            if metadata.is_empty:
                continue
        elif not watermarks.is_empty and watermarks.covers_line(key, rest):
            continue
        yield key, rest


def replay(fs: FileSystem, directory: Path, numbers: Iterable[int], recovered: Recovered) -> None:
    """Add the segments `numbers`, which must be whole, to `recovered`. Raises as `recover`."""
    for number in numbers:
        expected = recovered.position.segment
        path = segment_path(directory, expected)
        if number != expected or not fs.exists(path):
            raise DamagedState(f"{path}: missing; put it back, or {_BACKUP}")
        _read_segment(fs, path, recovered)


def _read_snapshot(fs: FileSystem, path: Path, recovered: Recovered) -> None:
    reader = SnapshotReader(fs, path)
    header = reader.header
    for records in reader.batches():
        recovered.records.update(records)
    # Metadata comes first: its keys sort before all IDs.
    for key in list(itertools.takewhile(is_metadata, recovered.records)):
        recovered.metadata[key] = recovered.records.pop(key)
    recovered.last_version = header.last_version
    recovered.position = Position(segment=header.segment + 1, crc=header.crc)
    recovered.boot, recovered.boot_id = header.boot, header.boot_id
    recovered.compacted = header.segment


def _read_segment(fs: FileSystem, path: Path, recovered: Recovered) -> None:
    number, crc, end = recovered.position.segment, recovered.position.crc, 0
    try:
        for frame in read_frames(fs.read(path), crc):
            lines = frame.payload.split(b"\n")[:-1]
            if end == 0:
                _read_header(path, number, lines, recovered)
            else:
                _read_records(path, frame.start, lines, recovered)
            crc, end = frame.crc, frame.end
    except Broken as broken:
        raise DamagedState(f"{path}: byte {broken.offset}: {broken}; {_BACKUP}") from None
    recovered.position = Position(segment=number + 1, crc=crc)


def _repair_end(fs: FileSystem, path: Path, recovered: Recovered) -> None:
    """Cut a torn end off the last segment, and make sure that the rest is on the disk, so that a
    power cut cannot take away what is read from it.

    A segment with several links may be a hard-linked backup of the journal of a running daemon,
    which must not be cut. It is copied first.
    """
    if fs.link_count(path) > 1:
        _unlink_copy(fs, path)
    handle = fs.open(path)
    try:
        handle.sync()
        fs.drop_cache(path)
        data = fs.read(path)
        try:
            for _ in read_frames(data, None):
                pass
        except Broken as broken:
            if broken.torn:
                recovered.cut = Cut(path=str(path), offset=broken.offset, size=len(data) - broken.offset)
                handle.truncate(broken.offset)
                handle.sync()
    finally:
        handle.close()


def _unlink_copy(fs: FileSystem, path: Path) -> None:
    """Replace a file by a copy of its own, without other links."""
    new = path.with_name(f"{path.name}.new")
    if fs.exists(new):
        fs.remove(new)
    handle = fs.create(new)
    try:
        handle.write(fs.read(path))
        handle.sync()
    finally:
        handle.close()
    fs.rename(new, path)
    fs.sync_directory(path.parent)


def _read_header(path: Path, number: int, lines: list[bytes], recovered: Recovered) -> None:
    try:
        header = decode_versioned(b"\n".join(lines), SegmentHeader, FORMAT, VERSION, path)
    except Malformed as error:
        raise DamagedState(f"{path}: byte 0: {error}; {_BACKUP}") from None
    if header.segment != number:
        raise DamagedState(f"{path}: byte 0: this is segment {header.segment}; restore the original name of the file")
    recovered.boot, recovered.boot_id = header.boot, header.boot_id


def _read_records(path: Path, offset: int, lines: list[bytes], recovered: Recovered) -> None:
    for line in lines:
        try:
            version = decode_version(line)
            key, rest = split_record(line)
        except Malformed as error:
            raise DamagedState(f"{path}: byte {offset}: {error}; {_BACKUP}") from None
        if is_metadata(key):
            recovered.metadata[key] = rest
        else:
            recovered.records[key] = rest
            recovered.last_version = max(recovered.last_version, version)
