"""IDs that never had a node, and how those of a home come to be forgotten: all that are not newer
than a version.

A home that forgets its unused IDs says so once for all of them, by a *mark*: a version up to which
they are gone. It is kept as a note, so it is one line however many IDs it is about, it only ever
rises, and whoever has it needs not be told of each. An ID that is registered under at the same time
has a newer version, and is used; so a mark never takes away what anybody was told.
"""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core import codec
from rqdisco.core.codec import Metadata
from rqdisco.core.records import Record, is_unused

_EXPIRED = "!expired/"
_NODES = b'"nodes":'


def expiry_watermark(owner: str, version: int) -> Metadata:
    """The note that all unused IDs of a home up to a version are gone."""
    return Metadata(id=_EXPIRED + owner, owner=owner, number=version)


class ExpiryWatermarks:
    """The marks of all homes; notes of other kinds are passed over."""

    def __init__(self, notes: Iterable[Metadata] = ()) -> None:
        self._upto: dict[str, int] = {}
        for note in notes:
            self.learn(note)

    @property
    def are_any(self) -> bool:
        """Whether any home has one."""
        return bool(self._upto)

    def learn(self, note: Metadata) -> None:
        """The disk has a note."""
        if note.id.startswith(_EXPIRED):
            self._upto[note.owner] = max(self.of(note.owner), note.number)

    def of(self, owner: str) -> int:
        """Up to which version the unused IDs of a home are gone, 0 if none are."""
        return self._upto.get(owner, 0)

    @property
    def all(self) -> dict[str, int]:
        """The marks, by home."""
        return dict(self._upto)

    def cover(self, record: Record) -> bool:
        """Whether that is one of those that are gone."""
        return record.version <= self.of(record.owner) and is_unused(record)

    def cover_line(self, key: bytes, rest: bytes) -> bool:
        """The same for a record as the store keeps it. One of which a newer release says more is
        used.
        """
        if _NODES in rest or codec.quick_version_of(rest) > self.of(codec.owner_of(rest)):
            return False
        line = codec.join_record(key, rest)
        record = codec.decode_record(line)
        return self.cover(record) and codec.encode_record(record) == line
