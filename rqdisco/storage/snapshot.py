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

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from operator import lt
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from rqdisco.core.codec import Malformed, decode_json, decode_versioned, split_record
from rqdisco.core.errors import DamagedState
from rqdisco.storage.files import FileSystem

NAME = "snapshot.json"
PREVIOUS_NAME = "snapshot.previous.json"
FORMAT = "rqdisco snapshot"
# The versions are those of the journal, see `wal.frames`.
VERSION = 5
SYNC_EVERY = 4 << 20
_HEADER_END = b',"records":[\n'
_CHUNK_LINES = 2000
# Whole lines, split as by `split_record`; no ID has a character that JSON escapes.
_RECORDS = re.compile(rb'(?m)^\{"id":"([^"\\\n]+)(","home":[^\n]*\}),?\n')

H = TypeVar("H", bound=msgspec.Struct)


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


class RecordsReader(Generic[H]):
    """Reads a document of records line by line: one whose header is of the type `kind`, in the
    format `name` of a version up to `newest`. `advice` says what to do about a damaged one.

    Nothing may be trusted before `records` has ended. Raises DamagedState, UnknownFormat and
    OSError, from the constructor and while iterating.
    """

    def __init__(self, fs: FileSystem, path: Path, kind: type[H], name: str, newest: int, advice: str) -> None:
        self._path = path
        self._advice = advice
        self._lines = fs.lines(path)
        first = next(self._lines, b"")
        self.header = self._decode_header(first, kind, name, newest)
        self._crc = zlib.crc32(first)
        self._count = 0
        self._previous_key = b""
        self._is_complete = False

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the split records, in the order of IDs."""
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Iterate over lists of split records, in the order of IDs."""
        while lines := list(islice(self._lines, _CHUNK_LINES)):
            content = b"".join(lines)
            records = _RECORDS.findall(content)
            if len(records) < len(lines) or not _are_ascending(self._previous_key, records):
                # The last lines of the snapshot, or something is wrong with these.
                yield list(self._one_by_one(lines))
                continue
            self._crc = zlib.crc32(content, self._crc)
            self._count += len(lines)
            self._previous_key = records[-1][0]
            yield records
        if not self._is_complete:
            raise self._damaged(f"ends after line {self._count + 1}")

    def _one_by_one(self, lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Split each line, and say which one is wrong."""
        for at, line in enumerate(lines, 1):
            if line.startswith(b"]"):
                self._check_trailer(line, is_last=at == len(lines))
                return
            self._crc = zlib.crc32(line, self._crc)
            self._count += 1
            try:
                key, rest = split_record(line, 2 if line.endswith(b",\n") else 1)
            except Malformed as error:
                raise self._damaged(f"line {self._count + 1}: {error}") from None
            if key <= self._previous_key:
                raise self._damaged(f"line {self._count + 1}: not in the order of IDs")
            yield key, rest
            self._previous_key = key

    def _decode_header(self, line: bytes, kind: type[H], name: str, newest: int) -> H:
        if not line.endswith(_HEADER_END):
            raise self._damaged(f"line 1: not the header of an {name}")
        content = line[: -len(_HEADER_END)] + b"}"
        try:
            return decode_versioned(content, kind, name, newest, self._path)
        except Malformed as error:
            raise self._damaged(f"line 1: {error}") from None

    def _check_trailer(self, line: bytes, *, is_last: bool) -> None:
        count = self._count
        try:
            trailer = decode_json(b"{" + line.removeprefix(b"],"), _SnapshotTrailer)
        except Malformed as error:
            raise self._damaged(f"line {count + 2}: {error}") from None
        is_end = is_last and next(self._lines, None) is None
        if trailer.count != count or trailer.crc != f"{self._crc:08x}" or not is_end:
            raise self._damaged(f"line {count + 2}: count or CRC does not match")
        self._is_complete = True

    def _damaged(self, where: str) -> DamagedState:
        return DamagedState(f"{self._path}: {where}; {self._advice}")


class SnapshotReader(RecordsReader[SnapshotHeader]):
    """Reads the snapshot at `path`."""

    def __init__(self, fs: FileSystem, path: Path) -> None:
        super().__init__(fs, path, SnapshotHeader, FORMAT, VERSION, _ADVICE)


def _are_ascending(previous_key: bytes, records: list[tuple[bytes, bytes]]) -> bool:
    keys = [record[0] for record in records]
    return previous_key < keys[0] and all(map(lt, keys, islice(keys, 1, None)))


_ADVICE = f"put {PREVIOUS_NAME} in its place (nothing is lost by that), or restore a backup (see docs/operations.md)"


def encode_snapshot(header: msgspec.Struct, records: Iterable[bytes]) -> Iterator[bytes]:
    """Return the document in parts, for `records` in the order of IDs. A backup has another
    `header`.
    """
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


def write_document(fs: FileSystem, path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and sync it, in place of any file of that name. It is removed if that fails.

    Raises OSError.
    """
    if fs.exists(path):
        fs.remove(path)
    handle = fs.create(path)
    try:
        unsynced = 0
        for part in parts:
            handle.write(part)
            # Writing a large file back at once would delay the journal's syncs.
            if (unsynced := unsynced + len(part)) > SYNC_EVERY:
                handle.sync()
                unsynced = 0
        handle.sync()
    except BaseException:
        fs.remove(path)
        raise
    finally:
        handle.close()


def _joined(lines: list[bytes], crc: int) -> tuple[int, bytes]:
    part = b"".join(lines)
    lines.clear()
    return zlib.crc32(part, crc), part
