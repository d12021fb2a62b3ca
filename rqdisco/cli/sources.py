"""What can be imported: our own exports and snapshots, and what other discovery services keep.

A source is read from end to end and checked before its first record is given away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from rqdisco.cli.app import Failed
from rqdisco.client import DamagedExport, ExportedNode, ExportedRecord, ExportReader
from rqdisco.core import codec
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import CannotStart
from rqdisco.core.exports import to_transferred
from rqdisco.storage.files import Disk
from rqdisco.storage.snapshot import SnapshotReader

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LINE_START = 100

T = TypeVar("T")


class BadSource(Failed):
    """Something that cannot be imported, as a whole; the text says which file, where and why."""


@dataclass(frozen=True)
class Source:
    """Records to import: what they are, how many, and a way to go through them, as often as need
    be.
    """

    what: str
    count: int
    records: Callable[[], Iterator[ExportedRecord]]


class _ForeignDocument(msgspec.Struct):
    """What the original service answers and keeps; `registrations` is what rqdisco adds to it."""

    created_at: str
    disco_id: str = ""
    nodes: tuple[str, ...] = ()
    registrations: tuple[ExportedNode, ...] = ()


def open_source(path: Path) -> Source:
    """Read and check the file or directory at `path`. Raises BadSource, OSError."""
    if path.is_dir():
        return _directory(path)
    with path.open("rb") as file:
        start = file.read(_LINE_START)
    if b'"rqdisco export"' in start:
        return _counted("export of rqdisco", lambda: _exported(path))
    if b'"rqdisco snapshot"' in start:
        return _counted("snapshot of rqdisco", lambda: _from_snapshot(path))
    return _listed("documents of a discovery service", _documents(path))


def _counted(what: str, records: Callable[[], Iterator[ExportedRecord]]) -> Source:
    return Source(what, sum(1 for _ in records()), records)


def _listed(what: str, records: list[ExportedRecord]) -> Source:
    return Source(what, len(records), lambda: iter(records))


def _exported(path: Path) -> Iterator[ExportedRecord]:
    reader = ExportReader()
    try:
        with path.open("rb") as lines:
            for line in lines:
                if (record := reader.feed(line)) is not None:
                    yield _decoded(record, ExportedRecord, f"{path}: record {reader.count}")
        reader.finish()
    except DamagedExport as error:
        raise BadSource(f"{path}: {error} (an export is imported byte for byte as it was written)") from None


def _from_snapshot(path: Path) -> Iterator[ExportedRecord]:
    try:
        for key, rest in SnapshotReader(Disk(), path).records():
            if not codec.is_metadata(key):
                record = codec.decode_record(codec.join_record(key, rest))
                yield msgspec.convert(to_transferred(record), ExportedRecord, from_attributes=True)
    except CannotStart as error:
        raise BadSource(str(error)) from None
    except Malformed as error:
        raise BadSource(f"{path}: {error}") from None


def _documents(path: Path) -> list[ExportedRecord]:
    """One document, an array of them, or one a line."""
    content = path.read_bytes().strip()
    if content.startswith(b"["):
        documents = _decoded(content, list[_ForeignDocument], str(path))
        return [_of_document(document, f"{path}: entry {number}") for number, document in _numbered(documents)]
    try:
        return [_of_document(msgspec.json.decode(content, type=_ForeignDocument), str(path))]
    except _UNREADABLE:
        lines = content.splitlines()
    if len(lines) < 2 or lines[0].strip() == b"{":
        return [_of_document(_decoded(content, _ForeignDocument, str(path)), str(path))]
    return [
        _of_document(_decoded(line, _ForeignDocument, f"{path}: line {number}"), f"{path}: line {number}")
        for number, line in _numbered(lines)
        if line.strip()
    ]


def _directory(path: Path) -> Source:
    """One document a file, named after its ID, as rqlite-disco-express keeps them (store.js)."""
    if (path / "journal").is_dir():
        raise BadSource(
            f"{path} is a state directory of rqdisco, whose snapshot lacks what is in its journal: use `rqdisco export`"
            " on its daemon, or import its snapshot.json and accept that"
        )
    files = sorted(path.glob("*.json"))
    if not files:
        raise BadSource(f"{path}: there are no .json files")
    records = [
        _of_document(_decoded(file.read_bytes(), _ForeignDocument, str(file)), str(file), disco_id=file.stem)
        for file in files
    ]
    return _listed("documents of a discovery service", records)


def _of_document(document: _ForeignDocument, where: str, *, disco_id: str = "") -> ExportedRecord:
    discovery_id = document.disco_id or disco_id
    if not discovery_id:
        raise BadSource(f"{where}: there is no disco_id")
    try:
        made = datetime.fromisoformat(document.created_at)
        created_at = _microseconds(made)
    except ValueError:
        raise BadSource(f"{where}: created_at is no time like 2017-02-20 01:25:45.589277") from None
    known = {node.addr: node for node in document.registrations}
    # The original kept a set.
    nodes = tuple(known.get(addr) or ExportedNode(addr=addr) for addr in dict.fromkeys(document.nodes))
    return ExportedRecord(id=discovery_id, created_at=created_at, nodes=nodes)


def _microseconds(made: datetime) -> int:
    """Since 1970; a time that names no zone is UTC, as the original wrote it."""
    since = (made if made.tzinfo else made.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _decoded(content: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except _UNREADABLE as error:
        raise BadSource(f"{where}: {error}") from None


def _numbered(things: Iterable[T]) -> Iterator[tuple[int, T]]:
    return enumerate(things, 1)
