"""A model of a daemon's disk, and of the journal that writes to it (`storage.wal`).

Each batch is one write and one sync, so a crash keeps all batches that were acknowledged, and the
one under way or not. `test_disk.py` compares it with the real journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rqdisco.core.codec import Metadata, decode_stored, decode_stored_metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Record
from rqdisco.storage.memory import Change, Store

FULL = "no space left on device"
# Called with None once the disk has the changes, or with the reason why it refuses them.
Done = Callable[[str | None], None]


class DecodedStore(Store):
    """A store that decodes each line once."""

    def __init__(self, settled: dict[bytes, bytes] | None = None, last_version: int = 0) -> None:
        super().__init__(settled, last_version)
        self._decoded: dict[bytes, tuple[bytes, Record]] = {}

    def newest(self, discovery_id: str) -> Record | None:
        key = discovery_id.encode()
        change = self._pending.get(key)
        return self._decode(key, self._settled.get(key) if change is None else change.rest)

    def settled(self, discovery_id: str) -> Record | None:
        key = discovery_id.encode()
        return self._decode(key, self._settled.get(key))

    def _decode(self, key: bytes, rest: bytes | None) -> Record | None:
        if rest is None:
            return None
        decoded = self._decoded.get(key)
        if decoded is None or decoded[0] is not rest:
            decoded = self._decoded[key] = rest, decode_stored(key, rest)
        return decoded[1]


class Disk:
    """A state directory: the identity in it, and the last line of each key, without its key.

    `full_since` is when the disk was last filled.
    """

    def __init__(self) -> None:
        self.incarnation: str | None = None
        self.is_full = False
        self.full_since = 0.0
        self.records: dict[bytes, bytes] = {}
        self.metadata: dict[bytes, bytes] = {}
        self.last_version = 0

    def copy(self) -> Disk:
        """Return an image of it, identity and all, on a disk that has room."""
        image = Disk()
        image.incarnation, image.last_version = self.incarnation, self.last_version
        image.records, image.metadata = dict(self.records), dict(self.metadata)
        return image

    def write(self, changes: Sequence[Change]) -> None:
        """Write a batch, of each record only what was put last."""
        for change in {change.key: change for change in changes}.values():
            if change.is_metadata:
                self.metadata[change.key] = change.rest
            else:
                self.records[change.key] = change.rest
                self.last_version = max(self.last_version, change.version)

    def recover(self) -> tuple[Store, list[Metadata]]:
        """Return what a daemon finds at its start, as `storage.wal.recovery` does."""
        metadata = [decode_stored_metadata(key, rest) for key, rest in self.metadata.items()]
        watermarks, records = ExpiryWatermarks(metadata), dict(self.records)
        if not watermarks.is_empty:
            records = {key: rest for key, rest in records.items() if not watermarks.covers_line(key, rest)}
        return DecodedStore(records, self.last_version), metadata


class ModelJournal:
    """Group commit, as `storage.wal.writer.Journal` does it.

    `soon` runs a call in the next turn, `in_thread` runs it after the time that a write takes.
    """

    def __init__(
        self,
        store: Store,
        disk: Disk,
        soon: Callable[[Callable[[], None]], None],
        in_thread: Callable[[Callable[[], None]], None],
    ) -> None:
        self._store = store
        self._disk = disk
        self._soon = soon
        self._in_thread = in_thread
        self._changes: list[Change] = []
        self._waiting: list[Done] = []
        self._writing: tuple[list[Change], list[Done]] | None = None
        self._is_started = False

    def append(self, changes: Sequence[Change], done: Done) -> None:
        """Write changes, all or none; without any, wait for all that were put before."""
        self._changes.extend(changes)
        self._waiting.append(done)
        if not self._is_started:
            self._is_started = True
            self._soon(self._write)

    def cut_short(self, *, is_kept: bool) -> None:
        """End in the middle of a write, which is on the disk afterwards or not."""
        if self._writing is not None and is_kept and not self._disk.is_full:
            self._disk.write(self._writing[0])

    def _write(self) -> None:
        self._writing = self._changes, self._waiting
        self._changes, self._waiting = [], []
        if self._writing[0]:
            self._in_thread(self._commit)
        else:
            self._written()

    def _commit(self) -> None:
        assert self._writing is not None
        if self._disk.is_full:
            self._refuse(FULL)
        else:
            self._disk.write(self._writing[0])
            self._written()

    def _written(self) -> None:
        assert self._writing is not None
        (changes, waiting), self._writing = self._writing, None
        self._store.settle(changes)
        self._end(waiting, None)

    def _refuse(self, reason: str) -> None:
        """Undo the batch and all changes based on it."""
        assert self._writing is not None
        waiting = self._writing[1] + self._waiting
        self._writing, self._changes, self._waiting = None, [], []
        self._store.discard()
        self._end(waiting, reason)

    def _end(self, waiting: list[Done], reason: str | None) -> None:
        for done in waiting:
            done(reason)
        self._is_started = bool(self._waiting)
        if self._is_started:
            # A turn later than possible, as the real journal.
            self._soon(lambda: self._soon(self._write))
