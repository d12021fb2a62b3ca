"""What a daemon finds on its disk when it starts, and what it refuses to start on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from rqdisco.core.codec import (
    Malformed,
    decode_metadata_line,
    decode_versioned,
    is_metadata,
    join_record,
    split_record,
    version_of,
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
    """The end of the last segment, cut off because it was written but never acknowledged."""

    path: str
    offset: int
    size: int


class Recovered(msgspec.Struct, kw_only=True):
    """All that was found: the records as the store keeps them, where the journal goes on, the
    newest boot it names.

    `notes` are what was kept about peers, in the same form; `compacted` is the last segment that
    the snapshot holds.
    """

    records: dict[bytes, bytes]
    notes: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    last_version: int = 0
    position: Position = Position(segment=1, crc=0)
    boot: int = 0
    boot_id: str = ""
    cut: Cut | None = None
    compacted: int = 0

    def boot_number(self, boot_id: str) -> int:
        """The number of the boot that the kernel calls `boot_id`: the one that it has on this disk,
        or one made of its name.

        Counted on from the disk, an older one would give it the number of a boot that it does not
        know of, and grants that peers give back would seem to be as young as the machine (R8).
        """
        if self.boot_id == boot_id:
            return self.boot
        return int.from_bytes(sha256(boot_id.encode()).digest()[:_BOOT_BYTES], "big")

    @property
    def changed(self) -> bool:
        """Whether the journal says more than the snapshot."""
        return self.position.segment - 1 > self.compacted


def recover(fs: FileSystem, directory: Path, *, is_backup: bool = False) -> Recovered:
    """Read the snapshot and the journal after it.

    Folds keep the last segment that is in the snapshot, so that one is missed; only a backup may be
    without it. A torn end of the last segment is cut off. Raises DamagedState for any other damage,
    UnknownFormat, OSError.
    """
    found = Recovered(records={})
    numbers = segment_numbers(fs, directory)
    if fs.exists(directory / NAME):
        _read_snapshot(fs, directory / NAME, found)
    elif fs.exists(directory / PREVIOUS_NAME):
        raise DamagedState(f"{directory / NAME}: missing; put {PREVIOUS_NAME} in its place (nothing is lost by that)")
    if found.compacted and found.compacted not in numbers and not is_backup:
        raise DamagedState(f"{segment_path(directory, found.compacted)}: missing; put it back, or {_BACKUP}")
    numbers = [number for number in numbers if number >= found.position.segment]
    replay(fs, directory, numbers[:-1], found)
    if numbers:
        _mend(fs, segment_path(directory, numbers[-1]), found)
        replay(fs, directory, numbers[-1:], found)
    watermarks = ExpiryWatermarks(decode_metadata_line(join_record(key, rest)) for key, rest in found.notes.items())
    if watermarks.are_any:
        found.records = {key: rest for key, rest in found.records.items() if not watermarks.cover_line(key, rest)}
    return found


def wanted(lines: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Those of a journal's lines that are still worth keeping, which come in the order of their
    keys, so notes first.

    Notes that say there is none any more are not, nor are IDs that expired.
    """
    watermarks = ExpiryWatermarks()
    for key, rest in lines:
        if is_metadata(key):
            note = decode_metadata_line(join_record(key, rest))
            watermarks.learn(note)
            if note.is_empty:
                continue
        elif watermarks.are_any and watermarks.cover_line(key, rest):
            continue
        yield key, rest


def replay(fs: FileSystem, directory: Path, numbers: Iterable[int], found: Recovered) -> None:
    """Add what the segments `numbers` say to `found`, which are whole. Raises as `recover` does."""
    for number in numbers:
        expected = found.position.segment
        path = segment_path(directory, expected)
        if number != expected or not fs.exists(path):
            raise DamagedState(f"{path}: missing; put it back, or {_BACKUP}")
        _read_segment(fs, path, found)


def _read_snapshot(fs: FileSystem, path: Path, found: Recovered) -> None:
    reader = SnapshotReader(fs, path)
    header = reader.header
    found.records.update(reader.records())
    # They come first, since no ID has a character that sorts before theirs.
    for key in list(itertools.takewhile(is_metadata, found.records)):
        found.notes[key] = found.records.pop(key)
    found.last_version = header.last_version
    found.position = Position(segment=header.segment + 1, crc=header.crc)
    found.boot, found.boot_id = header.boot, header.boot_id
    found.compacted = header.segment


def _read_segment(fs: FileSystem, path: Path, found: Recovered) -> None:
    number, crc, end = found.position.segment, found.position.crc, 0
    try:
        for frame in read_frames(fs.read(path), crc):
            lines = frame.payload.split(b"\n")[:-1]
            if end == 0:
                _read_header(path, number, lines, found)
            else:
                _read_records(path, frame.start, lines, found)
            crc, end = frame.crc, frame.end
    except Broken as broken:
        raise DamagedState(f"{path}: byte {broken.offset}: {broken}; {_BACKUP}") from None
    found.position = Position(segment=number + 1, crc=crc)


def _mend(fs: FileSystem, path: Path, found: Recovered) -> None:
    """Cut a torn end off the last segment, and let nothing be read, and shown, that a power cut
    could take away.

    One that has another name may be the end of another daemon's journal, whose hard-linked backup
    this was: that goes on growing, and none of it may be cut. So what there is now becomes a file
    of its own first.
    """
    if fs.names_of(path) > 1:
        _part(fs, path)
    handle = fs.open(path)
    try:
        handle.sync()
        fs.forget_cached(path)
        data = fs.read(path)
        try:
            for _ in read_frames(data, None):
                pass
        except Broken as broken:
            if broken.torn:
                found.cut = Cut(path=str(path), offset=broken.offset, size=len(data) - broken.offset)
                handle.truncate(broken.offset)
                handle.sync()
    finally:
        handle.close()


def _part(fs: FileSystem, path: Path) -> None:
    """Give this name a file of its own, with the same content."""
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


def _read_header(path: Path, number: int, lines: list[bytes], found: Recovered) -> None:
    try:
        header = decode_versioned(b"\n".join(lines), SegmentHeader, FORMAT, VERSION, path)
    except Malformed as error:
        raise DamagedState(f"{path}: byte 0: {error}; {_BACKUP}") from None
    if header.segment != number:
        raise DamagedState(f"{path}: byte 0: this is segment {header.segment}; give the file its own name again")
    found.boot, found.boot_id = header.boot, header.boot_id


def _read_records(path: Path, offset: int, lines: list[bytes], found: Recovered) -> None:
    for line in lines:
        try:
            version = version_of(line)
            key, rest = split_record(line)
        except Malformed as error:
            raise DamagedState(f"{path}: byte {offset}: {error}; {_BACKUP}") from None
        if is_metadata(key):
            found.notes[key] = rest
        else:
            found.records[key] = rest
            found.last_version = max(found.last_version, version)
