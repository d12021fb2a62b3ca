"""The simulator's model of the disk and the real journal do the same with the same operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.codec import Metadata
from rqdisco.core.expiry import expiry_watermark
from rqdisco.core.records import Node, Record
from rqdisco.service.wiring.storage import open_storage
from rqdisco.storage.memory import Change, Store, metadata_change
from tests.simulated.disk import Disk, ModelJournal
from tests.support.any_daemon import memory_system
from tests.support.daemon import Threads, default_config
from tests.support.disk import ModelDisk

OWNER = "0123456789abcdef"


class Side(Protocol):
    """One of the two: a store, and a journal that writes it to a disk."""

    store: Store
    events: list[object]

    def append(self, write: int, changes: Sequence[Change]) -> None: ...
    def turn(self) -> None: ...
    def release(self) -> None: ...
    def fill(self, *, is_full: bool) -> None: ...
    def crash(self, *, is_power_cut: bool, is_kept: bool) -> None: ...
    def back_up(self) -> None: ...
    def roll_back(self) -> None: ...


class AnySide:
    """The common part of both: turns of the reactor, and what the store reports."""

    store: Store

    def __init__(self) -> None:
        self.events: list[object] = []
        self._turns: list[Callable[[], None]] = []

    def turn(self) -> None:
        turns, self._turns = self._turns, []
        for call in turns:
            call()

    def _watch(self, metadata: Sequence[Metadata]) -> None:
        store = self.store
        store.on_settled.append(lambda changes: self._note("settled", changes))
        store.on_discarded.append(lambda changes: self._note("discarded", changes))
        found = {key: store.settled(key) for key in store.ids()}
        self.events.append(("found", found, sorted(metadata, key=lambda each: each.id), store.last_version))

    def _note(self, what: str, changes: Sequence[Change]) -> None:
        self.events.append((what, sorted(each.line for each in changes)))

    def _done(self, write: int, reason: str | None) -> None:
        self.events.append((write, reason))


def _fail(reason: str) -> None:
    raise AssertionError(reason)


class RealSide(AnySide):
    """The journal of a daemon, on a disk in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._disk = ModelDisk()
        self._backup: ModelDisk | None = None
        self._start()

    def _start(self) -> None:
        self._turns = []
        self._threads = Threads()
        self._threads.hold = True
        system = memory_system(
            Clock(), Random(1), call_soon=self._turns_append, wall_us=lambda: 0, uptime=lambda: 0.0, fail=_fail
        )
        storage = open_storage(default_config(), system, self._disk, self._threads, 1 << 11)
        self.store, self._journal = storage.store, storage.journal
        self._watch(storage.metadata)

    def _turns_append(self, call: Callable[[], None]) -> None:
        self._turns.append(call)

    def append(self, write: int, changes: Sequence[Change]) -> None:
        waiting: Deferred[None] = self._journal.append(*changes) if changes else self._journal.barrier()
        waiting.addCallbacks(lambda _: self._done(write, None), lambda failure: self._done(write, failure.value.reason))

    def release(self) -> None:
        if self._threads.held:
            self._threads.release()

    def fill(self, *, is_full: bool) -> None:
        self._disk.room = 0 if is_full else None

    def crash(self, *, is_power_cut: bool, is_kept: bool) -> None:
        if is_kept and self._threads.held and self._disk.room is None:
            self._threads.held[0][0]()
        room = self._disk.room
        self._disk = self._disk.crash(Random(2)) if is_power_cut else self._disk.kill()
        self._disk.room = room
        self._start()

    def back_up(self) -> None:
        self._backup = copy.deepcopy(self._disk)
        self._backup.room = None

    def roll_back(self) -> None:
        if self._backup is not None:
            self._disk, self._backup = self._backup.kill(), None
            self._start()


class ModelSide(AnySide):
    """The simulator's model."""

    def __init__(self) -> None:
        super().__init__()
        self._disk = Disk()
        self._backup: Disk | None = None
        self._start()

    def _start(self) -> None:
        self._turns = []
        self._held: list[Callable[[], None]] = []
        self.store, metadata = self._disk.recover()
        self._journal = ModelJournal(self.store, self._disk, self._turns_append, self._held_append)
        self._watch(metadata)

    def _turns_append(self, call: Callable[[], None]) -> None:
        self._turns.append(call)

    def _held_append(self, call: Callable[[], None]) -> None:
        self._held.append(call)

    def append(self, write: int, changes: Sequence[Change]) -> None:
        self._journal.append(changes, lambda reason: self._done(write, reason))

    def release(self) -> None:
        if self._held:
            self._held.pop(0)()

    def fill(self, *, is_full: bool) -> None:
        self._disk.is_full = is_full

    def crash(self, *, is_power_cut: bool, is_kept: bool) -> None:
        self._journal.cut_short(is_kept=is_kept)
        self._start()

    def back_up(self) -> None:
        self._backup = self._disk.copy()

    def roll_back(self) -> None:
        if self._backup is not None:
            self._disk, self._backup = self._backup, None
            self._start()


class Script:
    """The same operations for any side, drawn from a seed."""

    def __init__(self, seed: int, side: Side) -> None:
        self._random = Random(seed)
        self._side = side
        self._writes = 0
        self._version = 10

    def run(self) -> list[object]:
        steps: list[Callable[[], None]] = [
            *[self._append] * 4,
            self._barrier,
            *[self._side.turn] * 6,
            *[self._side.release] * 3,
            lambda: self._side.fill(is_full=self._random.random() < 0.3),
            self._side.back_up,
        ]
        for _ in range(120):
            self._random.choice(steps)()
            if self._random.random() < 0.03:
                is_power_cut, is_kept = self._random.random() < 0.5, self._random.random() < 0.5
                self._side.crash(is_power_cut=is_power_cut, is_kept=is_kept)
            elif self._random.random() < 0.01:
                self._side.roll_back()
        return self._side.events

    def _append(self) -> None:
        self._append_changes([self._change() for _ in range(self._random.randrange(1, 4))])

    def _barrier(self) -> None:
        self._append_changes([])

    def _append_changes(self, changes: Sequence[Change]) -> None:
        self._writes += 1
        self._side.append(self._writes, changes)

    def _change(self) -> Change:
        random = self._random
        number = random.randrange(6)
        self._version += 1
        if random.random() < 0.3:
            content = random.choice(("", "a", "b"))
            return metadata_change(Metadata(id=f"!note/{number}", owner=OWNER, content=content))
        if random.random() < 0.05:
            return metadata_change(expiry_watermark(OWNER, random.randrange(self._version)))
        # A record that was refused may come back at an older version.
        version = self._version - random.choice((0, 0, 0, 5))
        nodes: Any = (Node(addr=f"n{number}:1"),) if random.random() < 0.7 else ()
        discovery_id = f"00000000-0000-8000-8000-00000000000{number}"
        return self._side.store.put(Record(id=discovery_id, owner=OWNER, version=version, created_at=1, nodes=nodes))


@pytest.mark.parametrize("seed", range(40))
def test_the_model_of_the_disk_does_what_the_real_journal_does(seed: int) -> None:
    assert Script(seed, ModelSide()).run() == Script(seed, RealSide()).run()


def test_the_scripts_refuse_writes_and_lose_some() -> None:
    events: list[Any] = [event for seed in range(40) for event in Script(seed, ModelSide()).run()]
    assert {"settled", "discarded", "found"} <= {event[0] for event in events}
    assert {None, "no space left on device"} == {event[1] for event in events if isinstance(event[0], int)}
