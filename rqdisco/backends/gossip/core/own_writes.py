"""Own changes on their way to the disk: sent to peers before they are durable, and corrected if the
disk refuses them.

A version that a peer has must never be issued again, even if the disk loses it (R8). So some are
reserved on the disk in advance, and changes beyond them are published once they are durable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from rqdisco.core import codec, host_binding, records
from rqdisco.core.codec import Metadata
from rqdisco.core.records import Record
from rqdisco.storage.memory import Change, Store, metadata_change

_RESERVE = "!reserved"
# Versions are milliseconds, so this is about a minute of them.
_RESERVED = 60_000
# Refused records that are corrected at once.
_MAX_CORRECTIONS = 500


class OwnWrites:
    """The changes of records of `own`, this daemon's incarnation, that the disk has not written."""

    def __init__(self, own: str, store: Store, metadata: Iterable[Metadata] = ()) -> None:
        self._own = own
        self._store = store
        # The highest version that is reserved on the disk, and the same with the writes under way.
        self.reserved = max((each.number for each in metadata if each.id == _RESERVE), default=0)
        self.reserving = self.reserved
        # Changes sent while the disk is writing them; and records sent and then refused by it, as sent.
        self._in_flight: dict[bytes, Change] = {}
        self.refused: dict[bytes, bytes] = {}
        self._correcting: dict[bytes, int] = {}
        # Until this version is durable, nothing newer is published.
        self._withheld = 0

    def select(self, changes: Iterable[Change]) -> list[Change]:
        """Return the changes of own records."""
        return [
            each for each in changes if not codec.is_metadata(each.key) and codec.peek_owner(each.rest) == self._own
        ]

    def in_flight(self, key: bytes) -> Change | None:
        """Return the change of a record that was sent, and that the disk is writing."""
        return self._in_flight.get(key)

    @property
    def newest_pending(self) -> int:
        """The highest own version that is being written, 0 for none."""
        if not self._store.has_pending:
            return 0
        return max((change.version for change in self.select(self._store.pending)), default=0)

    def begin(
        self, changes: Sequence[Change], durable: int, *, may_send: bool, may_correct: bool
    ) -> tuple[Sequence[Change], Sequence[Change]]:
        """Begin the write of changes. Return those to publish now, and further changes to write with
        them. `durable` is the highest own version on the disk.

        Nothing is published if the disk refused the last changes, if a version is not reserved yet, if
        an earlier change waits to be durable, or if refused changes are corrected. Those are corrected
        in the next batch, so that the own cursor never passes them uncorrected.
        """
        own = self.select(changes)
        if not own:
            return (), ()
        newest = max(each.version for each in own)
        extra: list[Change] = []
        if self.refused:
            extra = self._corrections(own) if may_correct else []
            own = [*own, *extra]
        published: Sequence[Change] = ()
        if may_send and newest <= self.reserved and self._withheld <= durable and not extra:
            published = own
            self._in_flight |= {change.key: change for change in own}
        else:
            self._withheld = max(self._withheld, *(each.version for each in own))
        if newest > self.reserving - _RESERVED // 2:
            self.reserving = newest + _RESERVED
            extra.append(metadata_change(Metadata(id=_RESERVE, owner=self._own, number=self.reserving)))
        return published, extra

    def settled(self, change: Change) -> None:
        """Forget what was sent while the disk wrote this change, or an older one of the same ID."""
        sent = self._in_flight.get(change.key)
        if sent is not None and sent.version <= change.version:
            del self._in_flight[change.key]
        if self._correcting.get(change.key, change.version + 1) <= change.version:
            del self._correcting[change.key]
            self.refused.pop(change.key, None)

    def discarded(self, changes: Sequence[Change]) -> None:
        """Follow the loss of pending changes, which the disk refused."""
        for change in changes:
            self._correcting.pop(change.key, None)
            sent = self._in_flight.get(change.key)
            # What was sent may be older: a newer change of the same ID was withheld.
            if sent is not None and sent.version <= change.version:
                self.refused[change.key] = self._in_flight.pop(change.key).rest
        if self._withheld <= max((change.version for change in changes), default=0):
            self._withheld = 0

    def confirm_reservation(self, version: int) -> None:
        """All versions up to this one are reserved on the disk."""
        self.reserved = max(self.reserved, version)

    def fail_reservation(self) -> None:
        """Reserve versions with the next write again."""
        self.reserving = self.reserved

    @property
    def to_correct(self) -> list[bytes]:
        """Some IDs of records that peers received and this disk then refused."""
        return list(itertools.islice(self.refused, _MAX_CORRECTIONS))

    def true_record(self, key: bytes) -> Record | None:
        """Return the true state of an ID: the newest record, unless peers received a refused one that
        must not be taken back.

        That is the record of a new ID, as it was imported or reported, or without a claim whose winner
        was not told; and one in which a leader reported itself, since nodes may have been sent to it:
        its claim must not be won again (R5c).
        """
        known = self._store.newest(key.decode())
        line = self.refused.get(key)
        if line is None or (known is not None and known.nodes and known.unreported is None):
            # The nodes listed here keep others from being told to bootstrap.
            return known
        received = _without_claim(codec.decode_stored(key, line))
        is_retained = known is None or (received.confirmed and received.version > known.version)
        return received if is_retained else known

    def correct(self, keys: Iterable[bytes], version: int) -> list[Change]:
        """Put the true state of refused records into the store, with versions from `version` on."""
        changes = []
        for key in keys:
            record = self.true_record(key)
            if record is not None and record.owner == self._own:
                changes.append(self._store.put(replace(records.with_grant_revoked(record), version=version)))
                version += 1
        return changes

    def corrected(self, keys: Iterable[bytes]) -> None:
        """Forget refused records whose corrections are durable."""
        for key in keys:
            self.refused.pop(key, None)

    def reissue(self, keys: Iterable[bytes], version: int) -> list[Change]:
        """Give own records new versions, so that every peer receives them."""
        known = [self._store.newest(key.decode()) for key in keys]
        return [
            self._store.put(replace(record, version=number))
            for number, record in zip(itertools.count(version), filter(None, known))
            if record.owner == self._own
        ]

    def _corrections(self, own: Sequence[Change]) -> list[Change]:
        """Return the corrections of refused records that are not under way yet."""
        for change in own:
            if change.key in self.refused:
                self._correcting[change.key] = change.version
        left = sorted(self.refused.keys() - self._correcting.keys())
        corrections = self.correct(left, self._store.last_version + 1)
        self._correcting |= {each.key: each.version for each in corrections}
        return corrections


def _without_claim(record: Record) -> Record:
    """Return a record without its claim, if the winner was not told."""
    before = records.without_pending_grant(record)
    return record if before is record else host_binding.unbind(replace(before, unreported=None))
