"""One daemon as a state machine, with its disk and its sessions, all of it plain data.

Nothing happens by itself: whoever drives it decides what happens next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from rqdisco.backends.gossip.core.effects import ClientReply, Effect, Persist
from rqdisco.backends.gossip.core.inputs import (
    Delivered,
    Discarded,
    Input,
    Now,
    Persisted,
    Settled,
    Started,
    WriteRefused,
)
from rqdisco.backends.gossip.core.machine import Machine
from rqdisco.backends.gossip.core.state import MachineConfig
from rqdisco.backends.limits import Limits
from rqdisco.core import codec
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Moment
from rqdisco.storage.memory import Change, Store
from tests.simulated.copies import FIRST_NUMBER

WALL_US = 1_700_000_000_000_000
# The wall clock only issues versions. It stands still while a daemon runs.
US_PER_START = 1_000_000


@dataclass
class Disk:
    """The content of a disk, as a daemon finds it when it starts."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    metadata: dict[bytes, bytes] = field(default_factory=dict)

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            (self.metadata if change.is_metadata else self.records)[change.key] = change.rest

    def copy(self) -> Disk:
        return Disk(dict(self.records), dict(self.metadata))


@dataclass
class Daemon:
    """A daemon that runs, or is down (`machine` is None).

    `unwritten` are the writes that the disk has not finished, in order; `before_last` is the disk
    before the last write that it has. `sessions` are those with peers, by URL.
    """

    name: str
    seeds: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    machine: Machine | None = None
    clock: float = 0.0
    starts: int = 0
    greetings: int = 0
    disk: Disk = field(default_factory=Disk)
    before_last: Disk = field(default_factory=Disk)
    unwritten: list[Persist] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    @property
    def incarnation(self) -> str:
        return sha256(self.name.encode()).hexdigest()[:16]

    @property
    def now(self) -> Now:
        wall_us = WALL_US + self.starts * US_PER_START
        return Now(self.clock, Moment(1, int(self.clock * 1000)), wall_us)

    @property
    def wake_at(self) -> float | None:
        """Return the time to wake the machine, None if it is down or waits for nothing."""
        return None if self.machine is None else self.machine.state.woken_at

    def start(self) -> list[Effect]:
        """Start from what is on the disk."""
        self.starts += 1
        metadata = [codec.decode_stored_metadata(key, rest) for key, rest in self.disk.metadata.items()]
        metadata = [each for each in metadata if not each.is_empty]
        records = dict(self.disk.records)
        store = Store(records, max(map(codec.peek_version, records.values()), default=0))
        config = MachineConfig(
            incarnation=self.incarnation,
            run_id=f"{self.starts:08x}{self.incarnation[:8]}",
            name=self.name,
            url=self.url,
            host=self.name,
            seeds=self.seeds,
            limits=self.limits,
        )
        self.machine = Machine(config, store, metadata, ExpiryWatermarks(metadata), self.now)
        self.machine.state.last_number = FIRST_NUMBER
        return self.give(Started())

    def kill(self, written: int) -> None:
        """Kill the process after the disk has finished the first of the writes."""
        for persist in self.unwritten[:written]:
            self._write(persist)
        self.machine, self.unwritten, self.sessions, self.greetings = None, [], {}, 0

    def lose_last_write(self) -> None:
        """Make the disk the one before its last write."""
        self.disk = self.before_last.copy()

    def give(self, given: Input) -> list[Effect]:
        """Process an input; a grant is delivered at once. Return the effects for the others."""
        assert self.machine is not None
        effects: list[Effect] = []
        for effect in self.machine.receive(given, self.now):
            effects.append(effect)
            if isinstance(effect, Persist):
                self.unwritten.append(effect)
            elif isinstance(effect, ClientReply) and effect.confirm:
                effects += self.give(Delivered(effect.number, True))
        return effects

    def finish_write(self) -> list[Effect]:
        """The disk has finished the oldest write."""
        assert self.machine is not None
        persist = self.unwritten.pop(0)
        self._write(persist)
        self.machine.state.store.settle(list(persist.changes))
        effects: list[Effect] = []
        records = [each for each in persist.changes if not each.is_metadata]
        if records:
            effects += self.give(Settled(records))
        return effects + self.give(Persisted(persist.number))

    def refuse_writes(self, reason: str) -> list[Effect]:
        """The disk refuses all writes that it has not finished."""
        assert self.machine is not None
        refused, self.unwritten = self.unwritten, []
        store = self.machine.state.store
        discarded = store.pending
        store.discard()
        effects = self.give(Discarded(discarded)) if discarded else []
        for persist in refused:
            effects += self.give(WriteRefused(persist.number, reason))
        return effects

    def next_session(self) -> str:
        """Return the name of a new session that a peer begins here."""
        self.greetings += 1
        return f"{self.name}{self.starts}-{self.greetings}"

    def _write(self, persist: Persist) -> None:
        self.before_last = self.disk.copy()
        self.disk.write(persist.changes)
