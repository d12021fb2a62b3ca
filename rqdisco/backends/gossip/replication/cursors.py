"""What a daemon holds of every home, what it tells of that, and what it takes from others; moves no
bytes itself.

A *cursor* is the version up to which all records of a home are held without a gap. Deltas begin
where the receiver's cursor is; what comes beyond a gap is kept too, and moves the cursor once the
gap is filled. A home's own cursor is the last version that its own disk has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.replication.change_log import ChangeLog
from rqdisco.backends.gossip.replication.id_order import IDOrder
from rqdisco.backends.gossip.transport.messages import Delta, Page, Pull
from rqdisco.core import codec, records
from rqdisco.core.codec import Malformed, Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.ids import is_id
from rqdisco.core.records import Record
from rqdisco.storage.memory import Change, Store, metadata_change

# A message's records; pages of all that a home has are found by looking through so many.
RECORDS_AT_ONCE = 500
_LOOKED_AT_ONCE = 2_000
_CURSOR = "!cursor/"
_RESERVE = "!reserved"
# Versions are milliseconds, so that this is about a minute of them.
_RESERVED = 60_000
# Deltas beyond a gap that are remembered.
_MOST_BEYOND = 16
_GRANT = b'"grant":'


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a delta makes of the store: the changes to write, and IDs that two homes claim or that
    say two things.
    """

    changes: tuple[Change, ...]
    clashes: tuple[str, ...] = ()


class Replication:
    """The cursors of one daemon, whose own home is `own`.

    Its own records are told from when they are handed to the disk: `told` is how far, `own_cursor`
    what the disk has. What `watermarks` are about is taken from nobody; `era` is a number made anew
    at each start.
    """

    def __init__(
        self,
        own: str,
        store: Store,
        notes: Iterable[Metadata] = (),
        *,
        watermarks: ExpiryWatermarks | None = None,
        era: int = 1,
    ) -> None:
        self._own = own
        self._store = store
        self._logs: dict[str, ChangeLog] = {}
        self._held: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._beyond: dict[str, list[tuple[int, int]]] = {}
        self._watermarks = ExpiryWatermarks() if watermarks is None else watermarks
        self._order = IDOrder(store, era)
        self._reserved = 0
        for note in notes:
            if note.id.startswith(_CURSOR):
                self._held[note.owner] = note.number
            elif note.id == _RESERVE:
                self._reserved = note.number
        self._reserving = self._reserved
        # An older disk that was told what is gone need not have seen those versions.
        self.pass_over(max(self._reserved, self._watermarks.of(own)))
        self._found = self._newest_by_owner()
        # What expired was held too.
        self.own_cursor = self.told = max(self._found.get(own, 0), self._watermarks.of(own))
        # What is told of this daemon's own while its disk is at work on it, and what was told and
        # then refused.
        self._telling: dict[bytes, Change] = {}
        self._refused: dict[bytes, bytes] = {}
        self._correcting: set[bytes] = set()
        # Told of records from elsewhere that hold a grant, once the disk has them.
        self.on_foreign: Callable[[Record], None] | None = None
        # Told that a cursor of another home moved.
        self.on_reached: Callable[[], None] | None = None
        # Told that there are records of this daemon's own to be told.
        self.on_own: Callable[[], None] | None = None
        store.on_settled.append(self._settled)
        store.on_discarded = self._discarded

    @property
    def held(self) -> dict[str, int]:
        """The cursors, by home."""
        return {**self._held, self._own: self.own_cursor}

    @property
    def beyond(self) -> dict[str, int]:
        """The newest version of each home that is held beyond a gap, which is more than its cursor
        says.
        """
        return {
            owner: newest for owner, newest in self._found.items() if owner != self._own and newest > self.cursor(owner)
        }

    def cursor(self, owner: str) -> int:
        """How far the records of `owner` are durably held."""
        return self.own_cursor if owner == self._own else self._held.get(owner, 0)

    def behind(self, theirs: dict[str, int]) -> list[str]:
        """The homes of which a peer with these cursors has more."""
        return [owner for owner, cursor in sorted(theirs.items()) if cursor > self.cursor(owner)]

    def delta(self, owner: str, after: int) -> Delta | None:
        """What follows `after`, or the first part of it; None if that is too long ago to know."""
        keys = self._log(owner).since(after)
        if keys is None:
            return None
        numbered = (self._numbered(key, owner) for key in keys)
        # What was told and then refused is older again.
        found = sorted(each for each in numbered if each is not None and each[0] > after)
        upto = max(self.told if owner == self._own else self.cursor(owner), after)
        if len(found) > RECORDS_AT_ONCE:
            found = found[:RECORDS_AT_ONCE]
            upto = min(upto, found[-1][0])
        return Delta(owner=owner, after=after, upto=upto, records=[msgspec.Raw(line) for _, line in found])

    def lag(self, cursor: int, most: int | None = None) -> int | None:
        """How many of this daemon's own records changed after `cursor`; None if that is too long
        ago to know.

        No more than `most` changes are looked at, if that is given.
        """
        keys = self._log(self._own).since(cursor, most)
        return None if keys is None else len(keys)

    def page(self, pull: Pull) -> Page:
        """The answer to a pull."""
        if not pull.page:
            delta = self.delta(pull.owner, pull.after)
            if delta is not None:
                return Page(delta=delta)
        upto = pull.upto or self.cursor(pull.owner)
        keys, begin = self._order.part(pull.page, _LOOKED_AT_ONCE)
        lines: list[msgspec.Raw] = []
        looked_at = 0
        for key in keys:
            if len(lines) == RECORDS_AT_ONCE:
                break
            found = self._numbered(key, pull.owner)
            looked_at += 1
            if found is not None and found[0] > pull.after:
                lines.append(msgspec.Raw(found[1]))
        next_ = self._order.after(begin, looked_at)
        # Only the last part proves that there is no gap.
        after = upto if next_ else pull.after
        return Page(delta=Delta(owner=pull.owner, after=after, upto=upto, records=lines), page=next_)

    def take(self, delta: Delta) -> Taken:
        """Put what is new of a delta into the store, and say what has to be written. Raises
        Malformed.
        """
        told = [_decoded(bytes(raw)) for raw in delta.records]
        changes, clashes = [], []
        for line, record in told:
            if record.owner == self._own:
                # Only this daemon changes its own; what it lost it takes back by `reclaim`.
                continue
            if self._watermarks.cover(record):
                continue
            known = self._store.newest(record.id)
            precedence = "newer" if known is None else records.precedence(known, record)
            if precedence == "clash":
                clashes.append(record.id)
                precedence = "newer" if known is None or _wins(known, record) else "older"
            if precedence == "newer":
                changes.append(self._store.put_line(line, record.version))
        if delta.owner != self._own and (reached := self._reach(delta)) > self._expect(delta.owner):
            self._expected[delta.owner] = reached
            changes.append(metadata_change(Metadata(id=_CURSOR + delta.owner, owner=delta.owner, number=reached)))
        return Taken(changes=tuple(changes), clashes=tuple(clashes))

    def taken(self, delta: Delta, taken: Taken) -> None:
        """The disk has it."""
        for change in taken.changes:
            if codec.is_metadata(change.key):
                cursor = codec.decode_metadata_line(change.line).number
                self._held[delta.owner] = max(self._held.get(delta.owner, 0), cursor)
                if self.on_reached is not None:
                    self.on_reached()

    def not_taken(self) -> None:
        """The disk refused; with a batch all goes that was built upon it."""
        self._expected.clear()
        self._beyond.clear()

    def reclaim(self, delta: Delta) -> Sequence[Change]:
        """Put records of this daemon's own that it lost, and others kept, into the store again
        (R8).

        They keep their versions as long as another peer may have newer ones. Raises Malformed.
        """
        changes = []
        for raw in delta.records:
            record = codec.decode_record(bytes(raw))
            known = self._store.newest(record.id)
            is_lost = known is None or records.precedence(known, record) == "newer"
            if record.owner == self._own and is_lost and not self._watermarks.cover(record):
                changes.append(self._store.put_line(bytes(raw), record.version))
        return changes

    def pass_over(self, version: int) -> None:
        """Give out no version up to this one, which others have seen."""
        self._store.last_version = max(self._store.last_version, version)

    def caught_up(self, version: int) -> None:
        """All of this daemon's own up to `version` that anybody had is here."""
        self.own_cursor = max(self.own_cursor, version)
        self.told = max(self.told, version)

    def reissue(self, discovery_ids: Iterable[str], version: int) -> Sequence[Change]:
        """Give records of this daemon's own new versions, so that everybody gets them."""
        known = [self._store.newest(discovery_id) for discovery_id in discovery_ids]
        return [
            self._store.put(replace(record, version=number))
            for number, record in zip(itertools.count(version), filter(None, known))
            if record.owner == self._own
        ]

    @property
    def issuing(self) -> int:
        """The highest version of this daemon's own that is on its way to the disk, 0 for none."""
        return max((change.version for change in self.own_of(self._store.pending)), default=0)

    @property
    def refused(self) -> list[bytes]:
        """Some IDs of which peers were told what this disk then refused to take."""
        return list(itertools.islice(self._refused, RECORDS_AT_ONCE))

    def correct(self, keys: Iterable[bytes], version: int) -> Sequence[Change]:
        """Put what is true of refused ones again, with new versions from `version` on.

        An ID that was made only to be refused is kept, as one that nobody was told of.
        """
        changes = []
        for key in keys:
            known = self._store.newest(key.decode())
            if known is None:
                told = codec.decode_record(codec.join_record(key, self._refused[key]))
                known = Record(id=told.id, owner=told.owner, version=0, created_at=told.created_at)
            if known.owner == self._own:
                changes.append(self._store.put(replace(records.revoked(known), version=version)))
                version += 1
        return changes

    def corrected(self, keys: Iterable[bytes]) -> None:
        """The disk has it."""
        for key in keys:
            self._refused.pop(key, None)

    def of_owner(self, owner: str, place: int, above: int = 0) -> tuple[list[bytes], int]:
        """IDs of a home with versions above that, looked for from a place on, and where to go on; 0
        is nowhere.
        """
        part, begin = self._order.part(place, _LOOKED_AT_ONCE)
        found = [(key, self._numbered(key, owner)) for key in part]
        keys = [key for key, numbered in found if numbered is not None and numbered[0] > above]
        return keys, self._order.after(begin, len(part))

    def own_of(self, changes: Iterable[Change]) -> list[Change]:
        """Those of this daemon's own records."""
        return [each for each in changes if not codec.is_metadata(each.key) and codec.owner_of(each.rest) == self._own]

    def writing(self, changes: Sequence[Change], *, may_send: bool, may_correct: bool) -> Sequence[Change]:
        """These are being handed to the disk: peers may take theirs meanwhile, unless the disk
        refused the last ones. Returns what is to be written besides.

        A version that a peer has must never be given out again, though the disk may lose it: so
        some are reserved on the disk in advance, and what is not is told once the disk has it. What
        was told and then refused is put right in the first batch after that, so that the own cursor
        never passes it.
        """
        own = self.own_of(changes)
        if not own:
            return ()
        newest = max(each.version for each in own)
        if may_send and newest <= self._reserved:
            for change in own:
                self._tell(change)
                self._telling[change.key] = change
            if self.on_own is not None:
                self.on_own()
        besides: list[Change] = []
        if may_correct and self._refused:
            self._correcting = set(self._refused)
            left = self._correcting - {each.key for each in own}
            besides += self.correct(sorted(left), self._store.last_version + 1)
        if newest > self._reserved - _RESERVED // 2:
            self._reserving = newest + _RESERVED
            besides.append(metadata_change(Metadata(id=_RESERVE, owner=self._own, number=self._reserving)))
        return besides

    def _reach(self, delta: Delta) -> int:
        """How far there is no gap with a delta; one that comes beyond a gap is kept in mind, since
        messages overtake each other.
        """
        reached, beyond = self._expect(delta.owner), self._beyond.setdefault(delta.owner, [])
        beyond.append((delta.after, delta.upto))
        for after, upto in sorted(beyond):
            if after <= reached:
                reached = max(reached, upto)
        self._beyond[delta.owner] = [each for each in beyond if each[1] > reached][-_MOST_BEYOND:]
        return reached

    def _expect(self, owner: str) -> int:
        return max(self._expected.get(owner, 0), self._held.get(owner, 0))

    def _settled(self, changes: Sequence[Change]) -> None:
        before = self.told
        self._reserved = self._reserving
        if self.own_of(changes):
            self._telling.clear()
            self.corrected(self._correcting)
            self._correcting = set()
        self._order.follow()
        for change in changes:
            owner = codec.owner_of(change.rest)
            if owner == self._own:
                if change.version > before:
                    self._tell(change)
                self.own_cursor = max(self.own_cursor, change.version)
                continue
            self._log(owner).add(change.version, change.key)
            self._found[owner] = max(self._found.get(owner, 0), change.version)
            if self.on_foreign is not None and _GRANT in change.rest:
                self.on_foreign(codec.decode_record(change.line))
        if self.told != before and self.on_own is not None:
            self.on_own()

    def _tell(self, change: Change) -> None:
        self._log(self._own).add(change.version, change.key)
        self.told = max(self.told, change.version)

    def _discarded(self, changes: Sequence[Change]) -> None:
        self._reserving = self._reserved
        self._correcting = set()
        self._refused |= {key: change.rest for key, change in self._telling.items()}
        self._telling.clear()

    def _log(self, owner: str) -> ChangeLog:
        log = self._logs.get(owner)
        if log is None:
            # What was there at the start is in no log, be it behind a gap.
            log = self._logs[owner] = ChangeLog(max(self.cursor(owner), self._found.get(owner, 0)))
        return log

    def _numbered(self, key: bytes, owner: str) -> tuple[int, bytes] | None:
        """Version and line of a record, if it is one of `owner`."""
        telling = self._telling.get(key)
        line = self._store.line(key) if telling is None else telling.line
        if line is None:
            return None
        rest = codec.split_record(line)[1]
        return (codec.quick_version_of(rest), line) if codec.owner_of(rest) == owner else None

    def _newest_by_owner(self) -> dict[str, int]:
        """The highest version of each home, be it behind a gap."""
        newest: dict[str, int] = {}
        for rest in self._store.values():
            owner, version = codec.owner_of(rest), codec.quick_version_of(rest)
            if version > newest.get(owner, 0):
                newest[owner] = version
        return newest


def _decoded(line: bytes) -> tuple[bytes, Record]:
    """Raises Malformed."""
    record = codec.decode_record(line)
    if codec.split_record(line)[0] != record.id.encode() or not is_id(record.id):
        raise Malformed("not a record as it is written")
    return line, record


def _wins(known: Record, told: Record) -> bool:
    """Of two that cannot both be, everybody keeps the same one."""
    return (told.created_at, told.owner, told.version) < (known.created_at, known.owner, known.version)
