"""Encode records as an export, whose format is that of `exports`."""

from __future__ import annotations

import zlib

import msgspec
from msgspec.structs import asdict

from rqdisco.core.exports import (
    FORMAT,
    VERSION,
    Decisions,
    ExportedLeaderKey,
    ImportedNode,
    TransferredGrant,
    TransferredRecord,
)
from rqdisco.core.host_binding import export_host
from rqdisco.core.records import Record, UnreportedClaim, without_pending_grant

_encoder = msgspec.json.Encoder()


class ExportEncoder:
    """Encode an export piece by piece, one record per line. The document is valid JSON and ends
    with a count and a CRC.
    """

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._written = 0
        self._count = count

    def header(self) -> bytes:
        """Return the part before the records, with their expected number."""
        return self._with_crc(b'{"format":"%s","version":%d,"count":%d,"records":[' % (
            FORMAT.encode(), VERSION, self._count
        ))  # fmt: skip

    def record(self, record: Record, *, is_ownerless: bool = False) -> bytes:
        """Return a record and the separator before it; `is_ownerless` if this daemon may not grant
        under its ID.
        """
        separator = b"\n" if self._written == 0 else b",\n"
        self._written += 1
        return self._with_crc(separator + _encoder.encode(to_transferred(record, is_ownerless=is_ownerless)))

    def footer(self) -> bytes:
        """Return the part after the records."""
        self._with_crc(b"\n")
        return b'\n],"count":%d,"crc":"%08x"}\n' % (self._written, self._crc)

    def _with_crc(self, data: bytes) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        return data


def to_transferred(record: Record, *, is_ownerless: bool = False) -> TransferredRecord:
    """Return the exported form of a record: without a node whose grant may never have been
    answered, and under its previous owner if that was lost. `is_ownerless` if the exporting daemon
    may not grant under its ID.
    """
    record = without_pending_grant(record)
    exported = None
    if (leader := record.leader) is not None:
        claim = record.unreported or UnreportedClaim(times=0, since=0)
        exported = ExportedLeaderKey(
            value=leader.value,
            flags=leader.flags,
            addr=leader.addr,
            reported=record.confirmed,
            claims=claim.times,
            claimed_since=claim.since,
        )
    nodes = tuple(ImportedNode(**asdict(node)) for node in record.nodes)
    owner = record.previous_owners[-1] if record.ownerless and record.previous_owners else record.owner
    return TransferredRecord(
        id=record.id,
        created_at=record.created_at,
        owner=owner,
        nodes=nodes,
        leader=exported,
        host=export_host(record.host),
        decisions=_decisions(record, is_ownerless=is_ownerless),
    )


def _decisions(record: Record, *, is_ownerless: bool) -> Decisions:
    grant = record.grant
    return Decisions(
        grant=None if grant is None else TransferredGrant(addr=grant.addr, host=export_host(grant.host)),
        emptied=record.was_emptied,
        confirmed=record.confirmed,
        # An ID that was handed over counts as used; its previous owners mean nothing elsewhere.
        attempted=record.attempted or bool(record.previous_owners and not record.ownerless),
        ownerless=record.ownerless or is_ownerless,
    )
