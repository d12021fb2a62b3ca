"""Replication cursors: track how far each owner's records are held, build deltas and apply them.

A *cursor* is the version up to which all records of an owner are held without a gap. Deltas begin
at the receiver's cursor. Records beyond a gap are stored too, and the cursor passes them once the
gap is filled. An owner's own cursor is the last version on its own disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from rqdisco.backends.gossip.core.change_log import ChangeLog
from rqdisco.backends.gossip.core.id_order import IDOrder
from rqdisco.backends.gossip.core.messages import MAX_VERSION, Delta, Page, Pull
from rqdisco.backends.gossip.core.own_writes import OwnWrites
from rqdisco.core import codec, records
from rqdisco.core.codec import Malformed, Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.ids import is_id
from rqdisco.core.records import Record
from rqdisco.storage.memory import Change, Store, metadata_change

# Records per message, and their bytes, which the last one may exceed: receivers take 4 MiB. Keys to
# scan for one page of all records of an owner.
RECORDS_PER_MESSAGE = 500
BYTES_PER_MESSAGE = 1 << 20
_KEYS_PER_PART = 2_000
# Records that are changed in one turn of the reactor.
_CHANGES_PER_PART = 200
_CURSOR = "!cursor/"
# Deltas beyond a gap to remember.
_MAX_RANGES = 16
_GRANT = b'"grant":'
_PENDING = b'"pending":true'


class AppliedDelta(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of a delta on the store: changes to write, the cursor once they are durable, 0 if
    it does not move, and IDs with conflicting records (two owners, or two contents of one version).
    """

    changes: list[Change]
    reached: int
    conflicts: list[str]


class Cursors:
    """The cursors of one daemon, whose own incarnation is `own`.

    Own records are sent as soon as they are handed to the disk: `published` is how far,
    `own_cursor` what is durable. Records covered by `watermarks` are rejected; `era` is a new
    number at each start.
    """

    def __init__(
        self,
        own: str,
        store: Store,
        metadata: Iterable[Metadata] = (),
        *,
        own_writes: OwnWrites | None = None,
        watermarks: ExpiryWatermarks | None = None,
        era: int = 1,
    ) -> None:
        self._own = own
        self._store = store
        self._logs: dict[str, ChangeLog] = {}
        self._held: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._ranges_beyond_gap: dict[str, list[tuple[int, int]]] = {}
        self._watermarks = ExpiryWatermarks() if watermarks is None else watermarks
        self._own_writes = OwnWrites(own, store) if own_writes is None else own_writes
        self._order = IDOrder(store, era)
        for each in metadata:
            if each.id.startswith(_CURSOR):
                self._held[each.owner] = each.number
        # A rolled-back disk that learned a watermark need not have seen those versions.
        self.skip_versions(max(self._own_writes.reserved, self._watermarks.of(own)))
        self._newest = self._newest_by_owner()
        # Expired records were held too.
        self.own_cursor = self.published = max(self._newest.get(own, 0), self._watermarks.of(own))
        self._summary: tuple[dict[str, int], dict[str, int]] | None = None

    @property
    def summary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The cursors by owner; and the newest version held beyond a gap, by owner, where that exceeds
        the cursor. They are cached until either changes: do not modify them.
        """
        if self._summary is None:
            others = ((owner, newest) for owner, newest in self._newest.items() if owner != self._own)
            beyond = {owner: newest for owner, newest in others if newest > self.cursor(owner)}
            self._summary = {**self._held, self._own: self.own_cursor}, beyond
        return self._summary

    def cursor(self, owner: str) -> int:
        """Return the version up to which records of `owner` are durable here without a gap."""
        return self.own_cursor if owner == self._own else self._held.get(owner, 0)

    def owners_ahead(self, theirs: dict[str, int]) -> list[str]:
        """Return the owners of which a peer with these cursors holds more."""
        return [owner for owner, cursor in sorted(theirs.items()) if cursor > self.cursor(owner)]

    def delta(self, owner: str, after: int) -> Delta | None:
        """Return the records after `after`, or a first part of them; None if that is below the
        log's floor.
        """
        newer = self._newer(owner, after)
        if newer is None:
            return None
        upto = max(self.published if owner == self._own else self.cursor(owner), after)
        if len(newer) > 1 and (count := _count_that_fit(line for _, line in newer)) < len(newer):
            newer = newer[:count]
            upto = min(upto, newer[-1][0])
        return Delta(owner=owner, after=after, upto=upto, records=[msgspec.Raw(line) for _, line in newer])

    def _newer(self, owner: str, after: int) -> list[tuple[int, bytes]] | None:
        """Return the versions and lines of the records after `after`, in order, at least as many as go
        into a message; None if that is below the log's floor.
        """
        log = self._log(owner)
        changes = log.forwards(after)
        if changes is None:
            keys = log.since(after)
            if keys is None:
                return None
            versioned = (self._versioned_line(key, owner) for key in keys)
            # A record that was sent and then refused may be back at an older version.
            return sorted(each for each in versioned if each is not None and each[0] > after)
        # A receiver far behind gets many messages, and each must be made without reading the whole log.
        newer: list[tuple[int, bytes]] = []
        known: dict[bytes, tuple[int, bytes] | None] = {}
        for version, key in changes:
            if key not in known:
                known[key] = self._versioned_line(key, owner)
            if (record := known[key]) is not None and record[0] == version:
                newer.append(record)
                known[key] = None
                if len(newer) > RECORDS_PER_MESSAGE:
                    break
        return newer

    def lag(self, cursor: int, limit: int | None = None) -> int | None:
        """Count own records changed after `cursor`, None if that is below the log's floor.

        With `limit`, consider only that many changes.
        """
        keys = self._log(self._own).since(cursor, limit)
        return None if keys is None else len(keys)

    def page(self, pull: Pull) -> Page:
        """Answer a pull."""
        if not pull.page:
            delta = self.delta(pull.owner, pull.after)
            if delta is not None:
                return Page(delta=delta)
        upto = pull.upto or self.cursor(pull.owner)
        keys, begin = self._order.part(pull.page, _KEYS_PER_PART)
        lines: list[msgspec.Raw] = []
        looked_at = size = 0
        for key in keys:
            if len(lines) == RECORDS_PER_MESSAGE or size >= BYTES_PER_MESSAGE:
                break
            record = self._versioned_line(key, pull.owner)
            looked_at += 1
            if record is not None and record[0] > pull.after:
                lines.append(msgspec.Raw(record[1]))
                size += len(record[1])
        next_ = self._order.after(begin, looked_at)
        # Only the last page proves that there is no gap.
        after = upto if next_ else pull.after
        return Page(delta=Delta(owner=pull.owner, after=after, upto=upto, records=lines), page=next_)

    def apply(self, delta: Delta) -> AppliedDelta:
        """Put the new records of a delta into the store; return the changes to write. Raises
        Malformed.
        """
        received = [_decode_line(bytes(raw)) for raw in delta.records]
        changes, conflicts = [], []
        for line, record in received:
            if record.owner == self._own:
                # Only this daemon changes its own records; `recover` restores lost ones.
                continue
            if self._watermarks.covers(record):
                continue
            known = self._store.newest(record.id)
            precedence = "newer" if known is None else records.precedence(known, record)
            if precedence == "clash":
                conflicts.append(record.id)
                precedence = "newer" if known is None or _is_preferred(known, record) else "older"
            if precedence == "newer":
                changes.append(self._store.put_line(line, record.version))
        reached = 0
        if delta.owner != self._own and (cursor := self._extend_cursor(delta)) > self._expected_cursor(delta.owner):
            self._expected[delta.owner] = reached = cursor
            changes.append(metadata_change(Metadata(id=_CURSOR + delta.owner, owner=delta.owner, number=reached)))
        return AppliedDelta(changes=changes, reached=reached, conflicts=conflicts)

    def commit(self, owner: str, reached: int) -> None:
        """Move the cursor of an owner after the disk has written an applied delta."""
        self._held[owner] = max(self._held.get(owner, 0), reached)
        self._summary = None

    def rollback(self) -> None:
        """Forget expected cursors after a failed write, which discards all that was built on it."""
        self._expected.clear()
        self._ranges_beyond_gap.clear()

    def recover(self, delta: Delta) -> Sequence[Change]:
        """Restore this daemon's own records that it lost and peers retained (R8).

        They keep their versions as long as another peer may have newer ones. Raises Malformed.
        """
        changes = []
        for raw in delta.records:
            line, record = _decode_line(bytes(raw))
            known = self._store.newest(record.id)
            is_lost = known is None or records.precedence(known, record) == "newer"
            if record.owner == self._own and is_lost and not self._watermarks.covers(record):
                changes.append(self._store.put_line(line, record.version))
        return changes

    def skip_versions(self, version: int) -> None:
        """Never issue a version up to this one, which others may have seen."""
        self._store.last_version = max(self._store.last_version, version)

    def advance_own_cursor(self, version: int) -> None:
        """Move the own cursor: all own records up to `version` that any peer had are here."""
        self.own_cursor = max(self.own_cursor, version)
        self._summary = None
        self.published = max(self.published, version)

    def keys_of_owner(self, owner: str, position: int, above: int = 0) -> tuple[list[bytes], int]:
        """Return some keys of an owner's records above a version, scanned from a position on, and the
        next position; 0 at the end.
        """
        part, begin = self._order.part(position, _KEYS_PER_PART)
        keys: list[bytes] = []
        looked_at = 0
        for key in part:
            if len(keys) == _CHANGES_PER_PART:
                break
            versioned = self._versioned_line(key, owner)
            looked_at += 1
            if versioned is not None and versioned[0] > above:
                keys.append(key)
        return keys, self._order.after(begin, looked_at)

    def own_pending_grants(self) -> list[str]:
        """Return the IDs of own records on the disk whose grant counts as not answered."""
        found = []
        for key in self._store.keys_after(0):
            rest = self._store.rest(key)
            if rest is not None and _PENDING in rest and codec.peek_owner(rest) == self._own:
                found.append(key.decode())
        return found

    def _extend_cursor(self, delta: Delta) -> int:
        """Return the cursor after a delta. One beyond a gap is remembered, since messages overtake
        each other.
        """
        reached, ranges = self._expected_cursor(delta.owner), self._ranges_beyond_gap.setdefault(delta.owner, [])
        ranges.append((delta.after, delta.upto))
        for after, upto in sorted(ranges):
            if after <= reached:
                reached = max(reached, upto)
        self._ranges_beyond_gap[delta.owner] = [each for each in ranges if each[1] > reached][-_MAX_RANGES:]
        return reached

    def _expected_cursor(self, owner: str) -> int:
        return max(self._expected.get(owner, 0), self._held.get(owner, 0))

    def settled(self, changes: Sequence[Change]) -> list[Record]:
        """Follow changes that the disk has; return the records of other owners that hold a grant."""
        before = self.published
        self._summary = None
        self._order.append_new()
        granted = []
        for change in changes:
            owner = codec.peek_owner(change.rest)
            if owner == self._own:
                if change.version > before:
                    self.publish(change)
                self.own_cursor = max(self.own_cursor, change.version)
                self._own_writes.settled(change)
                continue
            self._log(owner).add(change.version, change.key)
            self._newest[owner] = max(self._newest.get(owner, 0), change.version)
            if _GRANT in change.rest:
                granted.append(codec.decode_record(change.line))
        return granted

    def publish(self, change: Change) -> None:
        """Send an own change to peers from now on."""
        self._log(self._own).add(change.version, change.key)
        self.published = max(self.published, change.version)

    def _log(self, owner: str) -> ChangeLog:
        log = self._logs.get(owner)
        if log is None:
            # Records found at start are in no log, even behind a gap.
            log = self._logs[owner] = ChangeLog(max(self.cursor(owner), self._newest.get(owner, 0)))
        return log

    def _versioned_line(self, key: bytes, owner: str) -> tuple[int, bytes] | None:
        """Return version and line of a record of `owner`, None if it is not one."""
        in_flight = self._own_writes.in_flight(key)
        line = self._store.line(key) if in_flight is None else in_flight.line
        if line is None:
            return None
        rest = codec.split_record(line)[1]
        return (codec.peek_version(rest), line) if codec.peek_owner(rest) == owner else None

    def _newest_by_owner(self) -> dict[str, int]:
        """Return the highest version by owner, gaps included."""
        newest: dict[str, int] = {}
        for rest in self._store.values():
            owner, version = codec.peek_owner(rest), codec.peek_version(rest)
            if version > newest.get(owner, 0):
                newest[owner] = version
        return newest


def _count_that_fit(lines: Iterable[bytes]) -> int:
    """Return how many of the lines, one at least, go into a message."""
    count = size = 0
    for line in islice(lines, RECORDS_PER_MESSAGE):
        if size >= BYTES_PER_MESSAGE:
            break
        count, size = count + 1, size + len(line)
    return count


def _decode_line(line: bytes) -> tuple[bytes, Record]:
    """Decode a record of a delta. Raises Malformed also where the store could not read it back."""
    record = codec.decode_record(line)
    key, rest = codec.split_record(line)
    try:
        peeked = key.decode(), codec.peek_owner(rest), codec.peek_version(rest)
    except ValueError:
        peeked = "", "", 0
    if peeked != (record.id, record.owner, record.version) or not is_id(record.id):
        raise Malformed("not a canonical record")
    if record.version > MAX_VERSION:
        raise Malformed("the version of a record is too high")
    return line, record


def _is_preferred(known: Record, received: Record) -> bool:
    """Choose between conflicting records in the same way on all daemons."""
    return (received.created_at, received.owner, received.version) < (known.created_at, known.owner, known.version)
