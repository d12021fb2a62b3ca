"""The exports that a migration compares: the records of one daemon, in a temporary file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import IO

import msgspec
from msgspec.structs import replace

from rqdisco.client import DiscoveryClient, ExportedRecord, ExportReader

_CHECKSUM_BYTES = 12


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record of a copy: its owner, and a checksum of everything else."""

    owner: str | None
    checksum: bytes


class Copy:
    """The export of the daemon whose records `store` identifies; `entries` are by ID."""

    def __init__(self, store: str, file: IO[bytes]) -> None:
        self.store = store
        self.entries: dict[str, Entry] = {}
        self._file = file

    def add(self, line: bytes) -> None:
        """Add an exported record. Raises msgspec.DecodeError."""
        record = msgspec.json.decode(line, type=ExportedRecord)
        self.entries[record.id] = Entry(record.owner, _checksum(record))
        self._file.write(line + b"\n")

    def records(self) -> Iterator[ExportedRecord]:
        """Iterate over the records."""
        self._file.seek(0)
        for line in self._file:
            yield msgspec.json.decode(line, type=ExportedRecord)


async def fetch_copy(client: DiscoveryClient, store: str) -> Copy:
    """Export all records of a daemon. Raises ClientError, DamagedExport, msgspec.DecodeError."""
    copy = Copy(store, tempfile.TemporaryFile())  # noqa: SIM115, it lasts as long as the copy
    reader = ExportReader()
    async with aclosing(client.export_lines()) as lines:
        async for line in lines:
            if (record := reader.feed(line)) is not None:
                copy.add(record)
    reader.finish()
    return copy


def sources_of(copies: Sequence[Copy]) -> dict[str, Copy] | None:
    """Return the copy to take each ID from: that of its owner. None if peers do not hold the same
    records yet.

    Other copies may lag behind. An ID whose owner is none of the daemons is the same everywhere.
    """
    chosen: dict[str, Copy] = {}
    stores = {copy.store for copy in copies}
    for discovery_id in dict.fromkeys(each for copy in copies for each in copy.entries):
        entries = [copy.entries.get(discovery_id) for copy in copies]
        owned = [copy for copy, entry in zip(copies, entries, strict=True) if entry and entry.owner == copy.store]
        is_foreign = all(entry is not None and entry.owner not in stores for entry in entries)
        if len(owned) == 1:
            chosen[discovery_id] = owned[0]
        elif is_foreign and len(set(entries)) == 1:
            chosen[discovery_id] = copies[0]
        else:
            return None
    return chosen


def _checksum(record: ExportedRecord) -> bytes:
    content = msgspec.json.encode(replace(record, owner=None))
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES).digest()
