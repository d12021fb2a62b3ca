"""Expiry watermarks, by which an owner deletes its unused IDs: created ones that never had a node.

A watermark is a version: all unused IDs of the owner up to it are deleted. It is stored as
metadata, one line for any number of IDs, and only rises. Peers that have it need no message per ID.
An ID that has been used since has a newer version and a node, so a watermark never deletes anything
that a node received in an answer. `backends.single.expiry_sweep` raises the watermark and deletes
the IDs.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core import codec
from rqdisco.core.codec import Metadata
from rqdisco.core.ids import is_created_id
from rqdisco.core.records import Record, is_unused

_EXPIRED = "!expired/"
_NODES = b'"nodes":'


def expiry_watermark(owner: str, version: int) -> Metadata:
    """Return the metadata that deletes all unused IDs of an owner up to a version."""
    return Metadata(id=_EXPIRED + owner, owner=owner, number=version)


class ExpiryWatermarks:
    """The watermark of each owner."""

    def __init__(self, metadata: Iterable[Metadata] = ()) -> None:
        self._versions: dict[str, int] = {}
        for each in metadata:
            self.learn(each)

    @property
    def is_empty(self) -> bool:
        """Report whether no owner has a watermark."""
        return not self._versions

    def learn(self, metadata: Metadata) -> None:
        """Raise a watermark from metadata on the disk; ignore other metadata."""
        if metadata.id.startswith(_EXPIRED):
            self._versions[metadata.owner] = max(self.of(metadata.owner), metadata.number)

    def of(self, owner: str) -> int:
        """Return the watermark of an owner, 0 if it has none."""
        return self._versions.get(owner, 0)

    @property
    def all(self) -> dict[str, int]:
        """The watermarks, by owner."""
        return dict(self._versions)

    def covers(self, record: Record) -> bool:
        """Report whether the watermark of its owner deletes the record. Somebody chose the name of a
        named ID, so it is kept.
        """
        return record.version <= self.of(record.owner) and is_unused(record) and is_created_id(record.id)

    def covers_line(self, key: bytes, rest: bytes) -> bool:
        """As `covers`, for a split record. A record with fields unknown to this release counts as
        used.
        """
        if _NODES in rest or codec.peek_version(rest) > self.of(codec.peek_owner(rest)):
            return False
        line = codec.join_record(key, rest)
        record = codec.decode_record(line)
        return self.covers(record) and codec.encode_record(record) == line
