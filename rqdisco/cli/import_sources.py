"""The sources of `rqdisco import`: rqdisco's exports and snapshots, and the documents of other
discovery services.

A source is read and checked to its end before its first record is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from rqdisco.cli.app import CommandFailed
from rqdisco.client import DamagedExport, ExportedNode, ExportedRecord, ExportReader
from rqdisco.core import codec
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import CannotStart
from rqdisco.core.export_encoder import to_transferred
from rqdisco.storage.files import Disk
from rqdisco.storage.snapshot import SnapshotReader

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Bytes that identify the kind of a file.
_START_BYTES = 100

T = TypeVar("T")


class BadSource(CommandFailed):
    """A source cannot be imported; the text names the file, the place and the reason."""


@dataclass(frozen=True)
class ImportSource:
    """Records to import, and their number. `kind` is for messages; `records` may be called more
    than once.
    """

    kind: str
    count: int
    records: Callable[[], Iterator[ExportedRecord]]


class _ForeignDocument(msgspec.Struct):
    """A document of the original service; `registrations` is rqdisco's addition."""

    created_at: str
    disco_id: str = ""
    nodes: tuple[str, ...] = ()
    registrations: tuple[ExportedNode, ...] = ()


def open_source(path: Path) -> ImportSource:
    """Read and check the file or directory at `path`. Raises BadSource, OSError."""
    if path.is_dir():
        return _read_directory(path)
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if b'"rqdisco export"' in start:
        return _record_source("rqdisco export", lambda: _export_records(path))
    if b'"rqdisco snapshot"' in start:
        return _record_source("rqdisco snapshot", lambda: _snapshot_records(path))
    return _document_source(_read_documents(path))


def _record_source(kind: str, records: Callable[[], Iterator[ExportedRecord]]) -> ImportSource:
    return ImportSource(kind, sum(1 for _ in records()), records)


def _document_source(records: list[ExportedRecord]) -> ImportSource:
    return ImportSource("documents of a discovery service", len(records), lambda: iter(records))


def _export_records(path: Path) -> Iterator[ExportedRecord]:
    reader = ExportReader()
    try:
        with path.open("rb") as lines:
            for line in lines:
                if (record := reader.feed(line)) is not None:
                    yield _decode_json(record, ExportedRecord, f"{path}: record {reader.count}")
        reader.finish()
    except DamagedExport as error:
        raise BadSource(f"{path}: {error} (import an export exactly as it was written)") from None


def _snapshot_records(path: Path) -> Iterator[ExportedRecord]:
    try:
        for key, rest in SnapshotReader(Disk(), path).records():
            if not codec.is_metadata(key):
                # The write-ahead log may hold later decisions, so none are known for certain.
                transferred = replace(to_transferred(codec.decode_stored(key, rest)), decisions=None)
                yield msgspec.convert(transferred, ExportedRecord, from_attributes=True)
    except CannotStart as error:
        raise BadSource(str(error)) from None
    except Malformed as error:
        raise BadSource(f"{path}: {error}") from None


def _read_documents(path: Path) -> list[ExportedRecord]:
    """Read one document, an array of documents, or one document per line."""
    content = path.read_bytes().strip()
    if content.startswith(b"["):
        documents = _decode_json(content, list[_ForeignDocument], str(path))
        return [_to_record(document, f"{path}: entry {number}") for number, document in enumerate(documents, 1)]
    try:
        return [_to_record(msgspec.json.decode(content, type=_ForeignDocument), str(path))]
    except _UNREADABLE:
        lines = content.splitlines()
    # Not one document per line, so a single one that is damaged: report why.
    if len(lines) < 2 or lines[0].strip() == b"{":
        return [_read_document(content, str(path))]
    return [_read_document(line, f"{path}: line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _read_directory(path: Path) -> ImportSource:
    """Read one document per file, named after its ID, as rqlite-disco-express stores them
    (store.js).
    """
    if (path / "journal").is_dir():
        raise BadSource(
            f"{path} is a state directory of rqdisco: use `rqdisco export` on its daemon, or import its snapshot.json,"
            " which lacks the changes in the write-ahead log"
        )
    files = sorted(path.glob("*.json"))
    if not files:
        raise BadSource(f"{path}: no .json files")
    records = [_read_document(file.read_bytes(), str(file), default_id=file.stem) for file in files]
    return _document_source(records)


def _read_document(content: bytes, where: str, *, default_id: str = "") -> ExportedRecord:
    return _to_record(_decode_json(content, _ForeignDocument, where), where, default_id)


def _to_record(document: _ForeignDocument, where: str, default_id: str = "") -> ExportedRecord:
    discovery_id = document.disco_id or default_id
    if not discovery_id:
        raise BadSource(f"{where}: disco_id is missing")
    try:
        created_at = _microseconds(datetime.fromisoformat(document.created_at))
    except ValueError:
        raise BadSource(f"{where}: created_at is not a time like 2017-02-20 01:25:45.589277") from None
    registrations = {node.addr: node for node in document.registrations}
    # The original service stores a set.
    nodes = tuple(registrations.get(addr) or ExportedNode(addr=addr) for addr in dict.fromkeys(document.nodes))
    return ExportedRecord(id=discovery_id, created_at=created_at, nodes=nodes)


def _microseconds(time: datetime) -> int:
    """Return the microseconds since 1970. A time without a zone is UTC, as in the original
    service.
    """
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def _decode_json(content: bytes, type_: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(content, type=type_)
    except _UNREADABLE as error:
        raise BadSource(f"{where}: {error}") from None
