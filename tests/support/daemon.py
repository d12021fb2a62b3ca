"""A whole daemon in memory, on a clock and a disk that the test controls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.task import Clock

from rqdisco.backends.limits import Limits
from rqdisco.backends.metrics import freeze_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.exports import ImportedNode, TransferredRecord
from rqdisco.core.records import Node, Record, RegistrationOutcome
from rqdisco.service.config import Config
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.storage import open_storage
from rqdisco.service.wiring.stored import (
    build_claim_monitor,
    build_expiry_sweeper,
    build_leader_monitor,
    build_single_directory,
    count_in,
    count_records,
)
from rqdisco.service.wiring.telemetry import build_request_telemetry
from rqdisco.storage.backup import Backups
from rqdisco.storage.compaction import compact
from rqdisco.storage.metrics import record_metrics, wal_metrics
from rqdisco.telemetry.health import DaemonHealth
from tests.support.any_daemon import AnyDaemon, Served
from tests.support.disk import ModelDisk

STATE = Path("/state")
DAY = 86_400.0


class Threads:
    """Run the journal's blocking calls at once, or hold them until the test releases them."""

    def __init__(self) -> None:
        self.held: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.hold = False

    def __call__(self, call: Callable[[], Any]) -> Deferred[Any]:
        if not self.hold:
            return maybeDeferred(call)
        done: Deferred[Any] = Deferred()
        self.held.append((call, done))
        return done

    def release(self) -> None:
        """Let the oldest held call run to its end."""
        call, done = self.held.pop(0)
        maybeDeferred(call).chainDeferred(done)

    def held_writes(self) -> list[list[bytes]]:
        """Return the lines of each held write of the journal."""
        return [call.args[0] for call, _ in self.held if isinstance(call, partial)]

    def release_all(self) -> None:
        while self.held:
            self.release()


def default_config(**changes: Any) -> Config:
    """The configuration of a daemon without options, but with `changes`; without a disk reserve."""
    options = DaemonOptions({})
    options.parseOptions([])
    return replace(options.config, data_dir=STATE, disk_reserve=0, **changes)


class Daemon(AnyDaemon):
    """Everything of a single daemon except its sockets; `restart` starts another one on what the
    disk then holds. `served` are options of its APIs.
    """

    directory: SingleDirectory

    def __init__(
        self,
        disk: ModelDisk | None = None,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        boot_id: str = "boot-a",
        clock: Clock | None = None,
        segment_bytes: int = 16 << 20,
        reserve: int | None = 0,
        unused_days: float | None = None,
        **served: Any,
    ) -> None:
        super().__init__(clock, seed, limits, unused_days)
        self.disk = disk or ModelDisk()
        self.threads = Threads()
        system = self.system(boot_id=boot_id)
        config = replace(default_config(limits=self.limits), disk_reserve=reserve)
        storage = open_storage(config, system, self.disk, self.threads, segment_bytes)
        self.owner = self.machine = storage.incarnation
        self.found = storage.recovered
        self.store, self.segments, self.journal = storage.store, storage.segments, storage.journal
        self.now = storage.now
        stored = build_single_directory(config, system, storage)
        self.claims = build_claim_monitor(self.clock, self.store)
        telemetry = build_request_telemetry(system, self.counts, self.recent, None)
        leaders = build_leader_monitor(system, storage, telemetry.events)
        leaders.startService()
        self.sweep = build_expiry_sweeper(unused_days, system, storage, stored, telemetry.events)
        for service in (count_records(self.clock, self.store, self.claims), self.claims):
            service.setServiceParent(self.background)
        metrics = [
            record_metrics(self.store, count_in(self.store), stored.is_ownerless),
            freeze_metrics(stored.directory),
            wal_metrics(self.journal, self.counts.syncs),
        ]
        health = DaemonHealth(
            lambda: self.journal.refused, more=self.claims.notes, frozen=lambda: stored.directory.frozen
        )
        self.backups = Backups(self.disk, STATE, self.owner, self.compact, self.threads, self.clock, self.wall_us)
        backend = Served(
            directory=stored.directory,
            names=stored.directory,
            health=health,
            leaders=leaders,
            metrics=metrics,
            backups=self.backups,
        )
        self._serve(backend, system, telemetry, **served)

    def count_ids(self) -> int | None:
        return self.directory.size

    def recount(self) -> None:
        """Do nothing: the number is always up to date."""

    def compact(self) -> Deferred[None]:
        """Bring the snapshot up to date, as a child process does for the daemon."""
        if self.disk.room == 0:
            return fail(StoreUnavailable("no snapshot can be made, see the log"))

        def run(through: int) -> None:
            compact(self.disk, STATE, through)

        return self.journal.seal().addCallback(run)

    def fill(self) -> str:
        self.disk.room = 0
        return "no space left on device"

    def empty(self) -> None:
        self.disk.room = None

    def restart(self, disk: ModelDisk | None = None, **options: Any) -> Daemon:
        """Kill this daemon and start the next one; on the same disk with everything that was
        written, unless another is given.
        """
        seed = self.random.randrange(1 << 30)
        options = {"limits": self.limits, "clock": self.clock, "unused_days": self.unused_days, **options}
        self.sweep.stopService()
        return Daemon(disk or self.disk.kill(), seed=seed, **options)


def result(deferred: Deferred[Any]) -> Any:
    """Return what `deferred` has fired with; raise what it failed with, and AssertionError if it
    has not fired.
    """
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    assert outcome, "has not fired"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def create_id(daemon: AnyDaemon) -> str:
    """Create an ID."""
    record: Record = result(Deferred.fromCoroutine(daemon.directory.create()))
    return record.id


def transferred(discovery_id: str, *nodes: Node, **more: Any) -> TransferredRecord:
    """Return a record as an import brings it."""
    imported = tuple(ImportedNode(**msgspec.structs.asdict(node)) for node in nodes)
    return TransferredRecord(id=discovery_id, created_at=1, nodes=imported, **more)


def register(daemon: AnyDaemon, discovery_id: str, addr: str, host: str | None = None) -> Deferred[RegistrationOutcome]:
    """Register the node at `addr` from the client host `host`; fires with the answer."""
    return Deferred.fromCoroutine(daemon.directory.register(discovery_id, Node(addr=addr), host))


def give_up(asking: Deferred[Any]) -> None:
    """Cancel a request whose client hung up before the answer."""
    asking.addErrback(lambda failure: failure.trap(CancelledError))
    asking.cancel()


def inspected(daemon: AnyDaemon, discovery_id: str) -> Record | None:
    """Return the whole record of an ID, None if there is none."""
    try:
        record: Record = result(Deferred.fromCoroutine(daemon.directory.inspect(discovery_id)))
    except NoSuchID:
        return None
    return record


def answer_of(registering: Deferred[RegistrationOutcome]) -> list[str]:
    """Return the addresses that a registration was answered with."""
    registration: RegistrationOutcome = result(registering)
    return [node.addr for node in registration.listed]


def shown(daemon: AnyDaemon, discovery_id: str) -> list[str]:
    """Return the addresses that a lookup answers."""
    record: Record = result(Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)))
    return [node.addr for node in record.nodes]
