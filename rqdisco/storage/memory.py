"""All records in memory, as the bytes that stand in the journal but for the ID, which is the key
already.

A change is *pending* from the moment it is put until it is settled, which is when the disk has it.
Pending changes lie over the settled ones, so that a batch the disk refuses is undone by dropping
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import overload

import msgspec

from rqdisco.core import codec
from rqdisco.core.name_index import NameIndex
from rqdisco.core.records import Record
from rqdisco.storage.node_counter import NodeCounter


class Change(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One record on its way to the disk, as the store keeps it."""

    key: bytes
    rest: bytes
    version: int

    @property
    def line(self) -> bytes:
        """What is written."""
        return codec.join_record(self.key, self.rest)


def metadata_change(note: codec.Metadata) -> Change:
    """A note on its way to the disk."""
    return Change(*codec.split_record(codec.encode_metadata(note)), 0)


class IDs(Sequence[str]):
    """IDs as texts, made one by one: to make a million at once would hold everything up."""

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


class Store:
    """Records by ID. Knows no disk: who puts a change also settles it, or discards all that is
    pending.

    `last_version` is the highest that was given out, `settled_version` the highest that the disk
    has. All `on_settled` are told of changes that the disk has now, `on_discarded` of those that it
    refused, all `on_dropped` of IDs that are gone; `node_counter` is kept up with them.
    """

    def __init__(self, settled: dict[bytes, bytes] | None = None, last_version: int = 0) -> None:
        self._settled: dict[bytes, bytes] = {} if settled is None else settled
        self._pending: dict[bytes, Change] = {}
        # How many of those are IDs that the disk does not have in any state.
        self._fresh = 0
        # How many the disk ever had since the start.
        self._came = len(self._settled)
        self._name_index: NameIndex | None = None
        self.last_version = last_version
        self.settled_version = last_version
        self.on_settled: list[Callable[[Sequence[Change]], None]] = []
        self.on_discarded: Callable[[Sequence[Change]], None] | None = None
        self.on_dropped: list[Callable[[Sequence[bytes]], None]] = []
        self.node_counter: NodeCounter | None = None

    def __len__(self) -> int:
        """The number of IDs that the disk has."""
        return len(self._settled)

    def count_all(self) -> int:
        """The number of IDs held, those included that the disk does not have yet."""
        return len(self._settled) + self._fresh

    def ids(self) -> IDs:
        """All IDs that the disk has now."""
        return IDs(list(self._settled))

    def newest(self, discovery_id: str) -> Record | None:
        """The record with every change that was put, settled or not; the base for the next
        change.
        """
        key = discovery_id.encode()
        change = self._pending.get(key)
        return _decoded(key, self._settled.get(key) if change is None else change.rest)

    def settled(self, discovery_id: str) -> Record | None:
        """The record as the disk has it; what may be shown."""
        key = discovery_id.encode()
        return _decoded(key, self._settled.get(key))

    def line(self, key: bytes) -> bytes | None:
        """The record as the disk has it, as it is written."""
        rest = self._settled.get(key)
        return None if rest is None else codec.join_record(key, rest)

    def rest(self, key: bytes) -> bytes | None:
        """The same without its ID, as it is kept."""
        return self._settled.get(key)

    @property
    def pending(self) -> list[Change]:
        """The newest changes that the disk does not have yet."""
        return list(self._pending.values())

    def keys_after(self, count: int) -> list[bytes]:
        """The IDs that came after the first `count` that the disk ever had, in the order in which
        they came.
        """
        came = self._came - count
        if came >= len(self._settled):
            return list(self._settled)
        return list(islice(reversed(self._settled), came))[::-1]

    def values(self) -> Iterable[bytes]:
        """All records that the disk has, without their IDs."""
        return self._settled.values()

    def is_pending(self, discovery_id: str) -> bool:
        """Whether the newest record is not yet on the disk."""
        return discovery_id.encode() in self._pending

    @property
    def name_index(self) -> NameIndex:
        """The IDs as names in which case does not count; looks through all of them the first
        time.
        """
        if self._name_index is None:
            self._name_index = NameIndex(self._settled)
        return self._name_index

    def build_name_index(self) -> None:
        """Look through all IDs as names now, and not while somebody waits for one of them."""
        self._name_index = NameIndex(self._settled)

    def put(self, record: Record) -> Change:
        """Make `record` the newest of its ID; the one way in for every change."""
        return self.put_line(codec.encode_record(record), record.version)

    def put_line(self, line: bytes, version: int) -> Change:
        """`put` for a record that came encoded, and may say more than this release knows."""
        change = Change(*codec.split_record(line), version)
        if change.key not in self._pending and change.key not in self._settled:
            self._fresh += 1
        self._pending[change.key] = change
        self.last_version = max(self.last_version, version)
        return change

    def settle(self, changes: list[Change]) -> None:
        """The disk has `changes`; notes among them are not kept here."""
        changes = [change for change in changes if not codec.is_metadata(change.key)]
        for change in changes:
            if self._name_index is not None:
                self._name_index.add(change.key)
            if self.node_counter is not None:
                self.node_counter.changed(self._settled.get(change.key), change.rest)
            if change.key not in self._settled:
                self._came += 1
                self._fresh -= change.key in self._pending
            self._settled[change.key] = change.rest
            self.settled_version = max(self.settled_version, change.version)
            if self._pending.get(change.key) is change:
                del self._pending[change.key]
        if changes:
            for tell in self.on_settled:
                tell(changes)

    def drop(self, keys: Sequence[bytes]) -> None:
        """Forget IDs: the disk has a note that they are gone. One that is on its way to the disk is
        as if new.
        """
        for key in keys:
            rest = self._settled.pop(key)
            self._fresh += key in self._pending
            # What is forgotten was minted, and so is its own lower-case name.
            if self.node_counter is not None:
                self.node_counter.dropped(rest)
        for tell in self.on_dropped:
            tell(keys)

    def discard(self) -> None:
        """The disk refused: every ID is again what the disk has. Versions that were used up stay
        used up.
        """
        if self.on_discarded is not None and self._pending:
            self.on_discarded(list(self._pending.values()))
        self._pending.clear()
        self._fresh = 0


def _decoded(key: bytes, rest: bytes | None) -> Record | None:
    return None if rest is None else codec.decode_record(codec.join_record(key, rest))
