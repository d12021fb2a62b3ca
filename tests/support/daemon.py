"""A whole daemon in memory, on a clock and a disk that the test controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock

from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.gossip.assembly import decode_metadata
from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.metrics import leader_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.expiry_sweep import ExpirySweeper
from rqdisco.backends.single.limits import Limits
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.codec import Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.exports import ImportedNode, TransferredRecord
from rqdisco.core.records import Moment, Node, Record, Registration
from rqdisco.http.metrics import request_metrics
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.runner import ANSWER_SECONDS, RequestTelemetry
from rqdisco.http.router import Apis
from rqdisco.http.ui.overview import Overview
from rqdisco.probes.metrics import probe_metrics, resolution_metrics
from rqdisco.probes.prober import Prober
from rqdisco.probes.resolution.host_names import HostNames
from rqdisco.probes.scheduler import ProbeScheduler
from rqdisco.probes.targets import Allowed, network
from rqdisco.security.tokens import Access
from rqdisco.service.wiring.registry import MetricsRegistry
from rqdisco.storage.disk_reserve import Reserve
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import wal_metrics
from rqdisco.storage.state_directory import open_state
from rqdisco.storage.wal.segments import SegmentWriter
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.events import Events, log_event
from rqdisco.telemetry.health import Health
from rqdisco.telemetry.recent import RecentActivity
from tests.support.disk import ModelDisk
from tests.support.network import ProbedNetwork
from tests.support.resolver import Resolver

STATE = Path("/state")
DAY = 86_400.0
WALL_US = 1_795_000_000_000_000


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

    def release_all(self) -> None:
        while self.held:
            self.release()


class Probe:
    """How a daemon probes: over an in-memory `network` that the test sets up, with names that its
    resolver has.
    """

    def __init__(self, *allowed: str, interval: float = 10.0, rate: float = 100.0) -> None:
        self.network = ProbedNetwork()
        self.resolver = Resolver()
        self._allowed = Allowed(map(network, allowed or ("10.0.0.0/8",)))
        self._interval, self._rate = interval, rate

    def rounds(self, directory: SingleDirectory, clock: Clock, watch: MetricsRegistry) -> ProbeScheduler:
        return ProbeScheduler(
            directory,
            Prober(self.network, clock),
            HostNames(clock, self.resolver, counts=watch.look_ups["probes"]),
            self._allowed,
            clock,
            lambda: 1.0,
            interval=self._interval,
            rate=self._rate,
        )


class Daemon:
    """Everything of the daemon except its sockets; `restart` starts another one on what the disk
    then holds.
    """

    def __init__(
        self,
        disk: ModelDisk | None = None,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        strict: bool = False,
        max_body: int = 16384,
        boot_id: str = "boot-a",
        clock: Clock | None = None,
        segment_bytes: int = 16 << 20,
        access: Access | None = None,
        probe: Probe | None = None,
        create_rate: float = 0.0,
        reserve: int | None = 0,
        unused_days: float | None = None,
        **apis: Any,
    ) -> None:
        self.disk = disk or ModelDisk()
        self.clock = clock or Clock()
        self.limits = limits or Limits()
        # How far the wall clock was set, in seconds.
        self.set_by = 0.0
        self.threads = Threads()
        self.random = Random(seed)
        self.failures: list[str] = []
        self.owner, self.found = open_state(self.disk, STATE, self.random.randbytes)
        boot = self.found.boot_number(boot_id)
        self.store = Store(self.found.records, self.found.last_version)
        kept = Reserve(self.disk, STATE, reserve, self.clock.seconds)
        self.segments = SegmentWriter(self.disk, STATE, self.found.position, boot, boot_id, kept)
        self.journal = Journal(
            self.store, self.segments, self.threads, lambda call: call(), self.failures.append, segment_bytes
        )
        self.now = lambda: Moment(boot, int(self.clock.seconds() * 1000))
        self.directory = SingleDirectory(
            self.store,
            self.journal,
            self.owner,
            now=self.now,
            wall_us=self.wall_us,
            random=self.random.randbytes,
            limits=self.limits,
        )
        self.unused_days = unused_days
        self.claims = ClaimMonitor(self.clock, self.store)
        self.health = Health(lambda: self.journal.refused, more=self.claims.notes)
        self.deadlines = Deadlines(self.clock, ANSWER_SECONDS)
        self.watch = MetricsRegistry(self.clock)
        self.recent = RecentActivity(self.clock.seconds, self.wall_us)
        self.telemetry = RequestTelemetry(Events(log_event, self.watch.outcomes, self.recent))
        self.leaders = LeaderMonitor(self.clock, self.telemetry.events)
        self.leaders.startService()
        self.store.on_settled.append(self.leaders.settled)
        self.watch.show(leader_metrics(self.leaders))
        self.sweep = sweep(self, decode_metadata(self.found.metadata.items()), self.telemetry.events)
        self.watch.count_all(self.store, lambda owner: owner != self.owner, self.claims)
        self.watch.show(request_metrics(self.watch.requests, self.telemetry.refusals))
        self.watch.show(wal_metrics(self.journal, self.watch.syncs))
        self.overview = Overview(self.describe, lambda: None, self.health, self.recent)
        self.rounds = None if probe is None else probe.rounds(self.directory, self.clock, self.watch)
        if self.rounds is not None:
            self.watch.show(probe_metrics(self.rounds))
        self.watch.show(resolution_metrics(self.watch.look_ups))
        self.apis = Apis(
            self.directory,
            self.deadlines,
            self.describe,
            self.health,
            self.clock,
            self.wall_us,
            max_body=max_body,
            strict=strict,
            access=access,
            telemetry=self.telemetry,
            metrics=self.watch.page,
            overview=self.overview,
            node_health=self.rounds,
            create_rate=create_rate,
            leaders=self.leaders,
            **apis,
        )

    def wall_us(self) -> int:
        """The wall clock, in microseconds since 1970."""
        return WALL_US + int((self.clock.seconds() + self.set_by) * 1_000_000)

    def describe(self) -> dict[str, Any]:
        """Describe the daemon as `GET /` does."""
        known = {"name": "rqdisco", "version": "0", "uptime": 0, "ids": self.directory.size}
        return known if self.unused_days is None else {**known, "unused_days": self.unused_days}

    def restart(self, disk: ModelDisk | None = None, **options: Any) -> Daemon:
        """Kill this daemon and start the next one; on the same disk with everything that was
        written, unless another is given.
        """
        seed = self.random.randrange(1 << 30)
        options = {"limits": self.limits, "clock": self.clock, "unused_days": self.unused_days, **options}
        self.sweep.stopService()
        return Daemon(disk or self.disk.kill(), seed=seed, **options)


def sweep(
    daemon: Any, notes: Sequence[Metadata], events: Events, marks: ExpiryWatermarks | None = None, **more: Any
) -> ExpirySweeper:
    """Return the service that forgets the unused IDs of a daemon and those of its peers."""
    days = daemon.unused_days
    return ExpirySweeper(
        daemon.clock,
        daemon.store,
        daemon.journal,
        marks or ExpiryWatermarks(notes),
        daemon.owner,
        events,
        daemon.now,
        version_ages=None if days is None else VersionAges(daemon.owner, int(days * DAY * 1000), notes),
        **more,
    )


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


def create_id(daemon: Daemon) -> str:
    """Create an ID."""
    record: Record = result(Deferred.fromCoroutine(daemon.directory.create()))
    return record.id


def transferred(discovery_id: str, *nodes: Node, **more: Any) -> TransferredRecord:
    """Return a record as an import brings it."""
    imported = tuple(ImportedNode(**msgspec.structs.asdict(node)) for node in nodes)
    return TransferredRecord(id=discovery_id, created_at=1, nodes=imported, **more)


def register(daemon: Daemon, discovery_id: str, addr: str, host: str | None = None) -> Deferred[Registration]:
    """Register the node at `addr` from the client host `host`; fires with the answer."""
    return Deferred.fromCoroutine(daemon.directory.register(discovery_id, Node(addr=addr), host))


def give_up(asking: Deferred[Any]) -> None:
    """Cancel a request whose client hung up before the answer."""
    asking.addErrback(lambda failure: failure.trap(CancelledError))
    asking.cancel()


def answer_of(registering: Deferred[Registration]) -> list[str]:
    """Return the addresses that a registration was answered with."""
    registration: Registration = result(registering)
    return [node.addr for node in registration.listed]


def shown(daemon: Daemon, discovery_id: str) -> list[str]:
    """Return the addresses that a lookup answers."""
    record: Record = result(Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)))
    return [node.addr for node in record.nodes]
