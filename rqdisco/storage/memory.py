"""All records in memory, encoded as in the journal, with the ID as key and the rest of the line as
value.

A change is *pending* from the moment it is put until it is settled, which is when the disk has it.
Pending changes are kept apart from settled records, so that a batch the disk refuses is undone by
discarding them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import overload
from weakref import WeakSet

import msgspec

from rqdisco.core import codec
from rqdisco.core.name_index import NameIndex
from rqdisco.core.records import Record
from rqdisco.storage.node_counter import NodeCounter

# A list of so many IDs takes half a mebibyte.
_SCANNED_AT_ONCE = 1 << 16


class Change(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One line on its way to the disk: whole, and as the store keeps it, split into key and
    rest.
    """

    key: bytes
    line: bytes
    rest: bytes
    version: int
    is_metadata: bool = False


def metadata_change(metadata: codec.Metadata) -> Change:
    """Return the change that writes metadata."""
    line = codec.encode_metadata(metadata)
    key, rest = codec.split_record(line)
    return Change(key, line, rest, 0, is_metadata=True)


class IDs(Sequence[str]):
    """IDs as text, decoded one by one: decoding a million at once would block the reactor."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> IDs: ...

    def __getitem__(self, index: int | slice) -> str | IDs:
        return IDs(self._keys[index]) if isinstance(index, slice) else self._keys[index].decode()


class Scan:
    """Goes through all settled IDs, in the order in which they were settled, while they change."""

    def __init__(self, settled: Mapping[bytes, bytes]) -> None:
        self._settled = settled
        self._chunk: list[bytes] = []
        # How many IDs are in this chunk and the earlier ones, and the place in this chunk.
        self._taken = 0
        self._place = 0
        self._is_whole = False

    def next_keys(self, count: int) -> Sequence[bytes]:
        """Return the next `count` IDs, fewer at the end of a chunk, none at the end."""
        if self._place == len(self._chunk) and not self._is_whole:
            # The way to a place leads past all IDs before it, so a chunk has many.
            self._chunk = list(islice(self._settled, self._taken, self._taken + _SCANNED_AT_ONCE))
            self._taken += len(self._chunk)
            self._place = 0
        keys = self._chunk[self._place : self._place + count]
        self._place += len(keys)
        return keys

    def before_drop(self) -> None:
        """Take all IDs that are left: deletions move those behind them."""
        if not self._is_whole:
            self._chunk = [*self._chunk[self._place :], *islice(self._settled, self._taken, None)]
            self._place, self._is_whole = 0, True


class Store:
    """Records by ID. The store does no I/O: the caller that puts changes also settles them, or
    discards all that are pending.

    `last_version` is the highest version given out, `settled_version` the highest on the disk. The
    `on_settled` callbacks get changes that the disk has, `on_discarded` those that it refused,
    `on_dropped` the IDs that were deleted. `node_counter` follows every settled change.
    """

    def __init__(self, settled: dict[bytes, bytes] | None = None, last_version: int = 0) -> None:
        self._settled: dict[bytes, bytes] = {} if settled is None else settled
        self._pending: dict[bytes, Change] = {}
        # Pending IDs that the disk does not have in any version.
        self._new_ids = 0
        # IDs ever settled, including those dropped since; the cursor of `keys_after`.
        self._settled_ids = len(self._settled)
        self._name_index: NameIndex | None = None
        self._scans: WeakSet[Scan] = WeakSet()
        self.last_version = last_version
        self.settled_version = last_version
        self.on_settled: list[Callable[[Sequence[Change]], None]] = []
        self.on_discarded: list[Callable[[Sequence[Change]], None]] = []
        self.on_dropped: list[Callable[[Sequence[bytes]], None]] = []
        self.node_counter: NodeCounter | None = None

    def __len__(self) -> int:
        """Return the number of IDs on the disk."""
        return len(self._settled)

    def count_all(self) -> int:
        """Return the number of IDs, including those that the disk does not have yet."""
        return len(self._settled) + self._new_ids

    def ids(self) -> IDs:
        """Return all IDs on the disk."""
        return IDs(list(self._settled))

    def scan(self) -> Scan:
        """Go through all IDs on the disk, without a list of all."""
        scan = Scan(self._settled)
        self._scans.add(scan)
        return scan

    def newest(self, discovery_id: str) -> Record | None:
        """Return the newest record, settled or pending: the base of the next change."""
        key = discovery_id.encode()
        change = self._pending.get(key)
        rest = self._settled.get(key) if change is None else change.rest
        return None if rest is None else codec.decode_stored(key, rest)

    def settled(self, discovery_id: str) -> Record | None:
        """Return the record on the disk: the one that may be shown."""
        key = discovery_id.encode()
        rest = self._settled.get(key)
        return None if rest is None else codec.decode_stored(key, rest)

    def line(self, key: bytes) -> bytes | None:
        """Return the line of the record on the disk."""
        rest = self._settled.get(key)
        return None if rest is None else codec.join_record(key, rest)

    def rest(self, key: bytes) -> bytes | None:
        """Return the rest of that line, as the store keeps it."""
        return self._settled.get(key)

    @property
    def has_pending(self) -> bool:
        """Report whether there are changes that the disk does not have yet."""
        return bool(self._pending)

    @property
    def pending(self) -> list[Change]:
        """The newest changes that the disk does not have yet."""
        return list(self._pending.values())

    def keys_after(self, count: int) -> list[bytes]:
        """Return the IDs settled after the first `count` ever settled, in that order."""
        later = self._settled_ids - count
        if later >= len(self._settled):
            return list(self._settled)
        return list(islice(reversed(self._settled), later))[::-1]

    def values(self) -> Iterable[bytes]:
        """Iterate over the rests of all lines on the disk."""
        return self._settled.values()

    def is_pending(self, discovery_id: str) -> bool:
        """Report whether the newest record is not on the disk yet."""
        return discovery_id.encode() in self._pending

    def is_pending_key(self, key: bytes) -> bool:
        """As `is_pending`, for an encoded ID."""
        return key in self._pending

    @property
    def name_index(self) -> NameIndex:
        """The IDs as DNS names; built at the first use."""
        if self._name_index is None:
            self._name_index = NameIndex(self._settled)
        return self._name_index

    def build_name_index(self) -> None:
        """Build the name index now, so that no request waits for it."""
        self._name_index = NameIndex(self._settled)

    def put(self, record: Record) -> Change:
        """Make `record` the newest of its ID."""
        key, line = record.id.encode(), codec.encode_record(record)
        # A valid ID has no character that JSON escapes.
        return self._add(Change(key, line, line[codec.ID_START + len(key) :], record.version))

    def put_line(self, line: bytes, version: int) -> Change:
        """Put a record that was received encoded, with any fields that this release does not
        know.
        """
        key, rest = codec.split_record(line)
        return self._add(Change(key, line, rest, version))

    def _add(self, change: Change) -> Change:
        if change.key not in self._settled and change.key not in self._pending:
            self._new_ids += 1
        self._pending[change.key] = change
        self.last_version = max(self.last_version, change.version)
        return change

    def settle(self, changes: list[Change]) -> None:
        """Mark `changes` as written to the disk; metadata among them is not kept in memory."""
        changes = [change for change in changes if not change.is_metadata]
        settled, pending, node_counter = self._settled, self._pending, self.node_counter
        for change in changes:
            key, rest = change.key, change.rest
            before = settled.get(key)
            if node_counter is not None:
                node_counter.changed(before, rest)
            if before is None:
                self._settled_ids += 1
                self._new_ids -= key in pending
                if self._name_index is not None:
                    self._name_index.add(key)
            settled[key] = rest
            self.settled_version = max(self.settled_version, change.version)
            if pending.get(key) is change:
                del pending[key]
        if changes:
            for notify in self.on_settled:
                notify(changes)

    def drop(self, keys: Sequence[bytes]) -> None:
        """Delete IDs, once the disk has the metadata that deletes them. A pending ID counts as new
        again.
        """
        for scan in self._scans:
            scan.before_drop()
        for key in keys:
            rest = self._settled.pop(key)
            self._new_ids += key in self._pending
            # Only created IDs expire; they are lower case, and so not in the name index.
            if self.node_counter is not None:
                self.node_counter.dropped(rest)
        for notify in self.on_dropped:
            notify(keys)

    def discard(self) -> None:
        """Return every ID to its record on the disk, which refused a batch. Versions given out are
        not reused.
        """
        if self._pending:
            for notify in self.on_discarded:
                notify(list(self._pending.values()))
        self._pending.clear()
        self._new_ids = 0
