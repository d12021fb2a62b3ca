"""The snapshot: one valid JSON document with one record a line, sorted by ID, ended by a count and
a CRC.

    {"format":"rqdisco snapshot","version":5,"segment":7,...,"records":[
    {"id":...},
    {"id":...}
    ],"count":2,"crc":"0a1b2c3d"}

It holds the state of the journal up to and including `segment`, with metadata, whose keys are not
valid IDs, among the records. The CRC runs over all lines before the last.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from rqdisco.core.codec import Malformed, decode_json, decode_versioned, split_record
from rqdisco.core.errors import DamagedState
from rqdisco.storage.files import FileSystem

NAME = "snapshot.json"
PREVIOUS_NAME = "snapshot.previous.json"
FORMAT = "rqdisco snapshot"
# The versions are those of the journal, see `wal.frames`.
VERSION = 5
_HEADER_END = b',"records":[\n'
_CHUNK_LINES = 2000


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: the last segment in the snapshot, and the highest version in it.

    `crc` is that of the last frame of `segment`, `boot` and `boot_id` the newest in the journal.
    """

    format: str = FORMAT
    version: int = VERSION
    segment: int
    crc: int
    boot: int
    boot_id: str
    last_version: int


class _SnapshotTrailer(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    crc: str


class SnapshotReader:
    """Reads a snapshot line by line; nothing may be trusted before `records` has ended.

    Raises DamagedState, UnknownFormat and OSError, from the constructor and while iterating.
    """

    def __init__(self, fs: FileSystem, path: Path) -> None:
        self._path = path
        self._lines = fs.lines(path)
        first = next(self._lines, b"")
        self.header = self._decode_header(first)
        self._crc = zlib.crc32(first)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the split records, in the order of IDs."""
        crc, count, previous_key = self._crc, 0, b""
        crc32 = zlib.crc32
        for line in self._lines:
            if line.startswith(b"]"):
                self._check_trailer(line, count, crc)
                return
            crc = crc32(line, crc)
            count += 1
            try:
                key, rest = split_record(line, 2 if line.endswith(b",\n") else 1)
            except Malformed as error:
                raise self._damaged(f"line {count + 1}: {error}") from None
            if key <= previous_key:
                raise self._damaged(f"line {count + 1}: not in the order of IDs")
            yield key, rest
            previous_key = key
        raise self._damaged(f"ends after line {count + 1}")

    def _decode_header(self, line: bytes) -> SnapshotHeader:
        if not line.endswith(_HEADER_END):
            raise self._damaged("line 1: not the header of a snapshot")
        content = line[: -len(_HEADER_END)] + b"}"
        try:
            return decode_versioned(content, SnapshotHeader, FORMAT, VERSION, self._path)
        except Malformed as error:
            raise self._damaged(f"line 1: {error}") from None

    def _check_trailer(self, line: bytes, count: int, crc: int) -> None:
        try:
            trailer = decode_json(b"{" + line.removeprefix(b"],"), _SnapshotTrailer)
        except Malformed as error:
            raise self._damaged(f"line {count + 2}: {error}") from None
        if trailer.count != count or trailer.crc != f"{crc:08x}" or next(self._lines, None) is not None:
            raise self._damaged(f"line {count + 2}: count or CRC does not match")

    def _damaged(self, where: str) -> DamagedState:
        return DamagedState(f"{self._path}: {where}; {_ADVICE}")


_ADVICE = f"put {PREVIOUS_NAME} in its place (nothing is lost by that), or restore a backup (see docs/operations.md)"


def encode_snapshot(header: SnapshotHeader, records: Iterable[bytes]) -> Iterator[bytes]:
    """Return the document in parts, for `records` in the order of IDs."""
    first = msgspec.json.encode(header)[:-1] + _HEADER_END
    crc, count, separator = zlib.crc32(first), 0, b""
    yield first
    lines: list[bytes] = []
    for record in records:
        lines += (separator, record)
        separator = b",\n"
        count += 1
        if count % _CHUNK_LINES == 0:
            crc, part = _joined(lines, crc)
            yield part
    if count:
        lines.append(b"\n")
    crc, part = _joined(lines, crc)
    yield part
    yield b'],"count":%d,"crc":"%08x"}\n' % (count, crc)


def _joined(lines: list[bytes], crc: int) -> tuple[int, bytes]:
    part = b"".join(lines)
    lines.clear()
    return zlib.crc32(part, crc), part
