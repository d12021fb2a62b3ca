"""Expiry of unused IDs: those that never had a node, up to a version.

An owner deletes its unused IDs by an *expiry watermark*: all of them up to a version are deleted.
The watermark is stored as metadata, one line for any number of IDs. It only rises, and daemons that
have it need no message for each ID. An ID that is used meanwhile has a newer version and a node; so
a watermark never deletes anything that a node was answered.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core import codec
from rqdisco.core.codec import Metadata
from rqdisco.core.records import Record, is_unused

_EXPIRED = "!expired/"
_NODES = b'"nodes":'


def expiry_watermark(owner: str, version: int) -> Metadata:
    """Return the metadata that deletes all unused IDs of an owner up to a version."""
    return Metadata(id=_EXPIRED + owner, owner=owner, number=version)


class ExpiryWatermarks:
    """The watermarks of all owners; other metadata is ignored."""

    def __init__(self, metadata: Iterable[Metadata] = ()) -> None:
        self._versions: dict[str, int] = {}
        for each in metadata:
            self.learn(each)

    @property
    def is_empty(self) -> bool:
        """Whether no owner has a watermark."""
        return not self._versions

    def learn(self, metadata: Metadata) -> None:
        """Add metadata that the disk has."""
        if metadata.id.startswith(_EXPIRED):
            self._versions[metadata.owner] = max(self.of(metadata.owner), metadata.number)

    def of(self, owner: str) -> int:
        """Return the watermark of an owner, 0 if it has none."""
        return self._versions.get(owner, 0)

    @property
    def all(self) -> dict[str, int]:
        """The watermarks, by owner."""
        return dict(self._versions)

    def cover(self, record: Record) -> bool:
        """Report whether the watermark of its owner deletes the record."""
        return record.version <= self.of(record.owner) and is_unused(record)

    def cover_line(self, key: bytes, rest: bytes) -> bool:
        """As `cover`, for a split record. A record with fields that this release does not know is
        used.
        """
        if _NODES in rest or codec.peek_version(rest) > self.of(codec.peek_owner(rest)):
            return False
        line = codec.join_record(key, rest)
        record = codec.decode_record(line)
        return self.cover(record) and codec.encode_record(record) == line
