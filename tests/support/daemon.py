"""A whole daemon in memory, on a clock and a disk that the test controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.task import Clock

from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.limits import Limits
from rqdisco.backends.metrics import freeze_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.exports import ImportedNode, TransferredRecord
from rqdisco.core.records import Node, Record, RegistrationOutcome
from rqdisco.http.api.metrics import MetricsPage
from rqdisco.http.apis import Apis
from rqdisco.http.context import HTTPContext, HTTPLimits
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.requests.runner import ANSWER_SECONDS, RequestTelemetry
from rqdisco.http.ui.daemon_status import EtcdMonitored, StatusCollector
from rqdisco.probes.cluster_judge import ClusterJudge
from rqdisco.probes.health_counter import HealthCounter
from rqdisco.probes.metrics import health_metrics, probe_metrics
from rqdisco.probes.scheduler import ProbeScheduler
from rqdisco.probes.targets import parse_network
from rqdisco.security.tokens import Access
from rqdisco.service.config import Config, ProbeConfig
from rqdisco.service.options import DaemonOptions
from rqdisco.service.system import System
from rqdisco.service.wiring.daemon import build_probe_scheduler
from rqdisco.service.wiring.storage import open_storage
from rqdisco.service.wiring.stored import (
    build_claim_monitor,
    build_expiry_sweeper,
    build_leader_monitor,
    build_single_directory,
    count_in,
    count_records,
)
from rqdisco.service.wiring.telemetry import base_metrics, build_request_telemetry, new_counts
from rqdisco.storage.backup import Backups
from rqdisco.storage.compaction import compact
from rqdisco.storage.metrics import record_metrics, wal_metrics
from rqdisco.telemetry.counters import LookupCounts
from rqdisco.telemetry.health import DaemonHealth
from rqdisco.telemetry.metrics import MetricSource
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor
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

    def held_writes(self) -> list[list[bytes]]:
        """Return the lines of each held write of the journal."""
        return [call.args[0] for call, _ in self.held if isinstance(call, partial)]

    def release_all(self) -> None:
        while self.held:
            self.release()


class Probe:
    """The probing of a daemon: over an in-memory `network` that the test sets up, with names that its
    resolver has.
    """

    def __init__(self, *allowed: str, interval: float = 10.0, rate: float = 100.0) -> None:
        self.network = ProbedNetwork()
        self.resolver = Resolver()
        networks = tuple(map(parse_network, allowed or ("10.0.0.0/8",)))
        self._config = ProbeConfig(interval=interval, allowed=networks, rate=rate)

    def scheduler(self, system: System, directory: Directory, counts: LookupCounts) -> ProbeScheduler:
        """The probe scheduler of a daemon."""
        return build_probe_scheduler(self._config, system, directory, self.network, self.resolver, counts)


def default_config(**changes: Any) -> Config:
    """The configuration of a daemon without options, but with `changes`; without a disk reserve."""
    options = DaemonOptions({})
    options.parseOptions([])
    return replace(options.config, data_dir=STATE, disk_reserve=0, **changes)


def memory_system(clock: Any, random: Random, **fields: Any) -> System:
    """Return the system of a daemon in memory: deferred calls run at once, and nothing ends the process."""
    defaults: dict[str, Any] = {
        "reactor": clock,
        "environment": {},
        "pid": 1,
        "boot_id": "boot-a",
        "network": None,
        "uptime": clock.seconds,
        "cpu": lambda: 0.0,
        "random": random.randbytes,
        "jitter": lambda: random.uniform(0.9, 1.1),
        "call_soon": lambda call: call(),
        "allow_descriptors": lambda connections: connections,
        "on_hangup": lambda call: None,
        "refuse": lambda refusal: None,
        "announce": lambda addresses: None,
    }
    return System(**{**defaults, **fields})


class AnyDaemon:
    """The common part of all daemons in memory, whatever their backend: the clocks, the telemetry and
    the APIs.
    """

    directory: Directory
    names: Any
    apis: Apis
    # Seconds after its last answer in which a claim is not answered to another host (R5c).
    claim_window = 30.0
    # The times, in seconds, after which a change of an ID is noticed at once that is watched from now on.
    watch_delays: Sequence[float] = ()
    # How old answers of the name server may be.
    dns_age = 0.0

    def __init__(self, clock: Clock | None, seed: int, limits: Limits | None, unused_days: float | None) -> None:
        self.clock = clock or Clock()
        self.limits = limits or Limits()
        # How far the wall clock was set, in seconds.
        self.set_by = 0.0
        self.random = Random(seed)
        self.failures: list[str] = []
        self.unused_days = unused_days
        self.deadlines = Deadlines(self.clock, ANSWER_SECONDS)
        self.counts = new_counts()
        self.recent = RecentActivity(self.clock.seconds, self.wall_us)
        self.background = MultiService()

    def system(self, **fields: Any) -> System:
        """Return the system that this daemon runs on."""
        return memory_system(
            self.clock,
            self.random,
            **{"wall_us": self.wall_us, "fail": self.failures.append, "jitter": lambda: 1.0, **fields},
        )

    def wall_us(self) -> int:
        """The wall clock, in microseconds since 1970."""
        return WALL_US + int((self.clock.seconds() + self.set_by) * 1_000_000)

    @property
    def size(self) -> int:
        """The number of IDs."""
        count: int = result(Deferred.fromCoroutine(self.directory.count()))
        return count

    def count_ids(self) -> int | None:
        """Return the number of IDs as `GET /` shows it."""
        raise NotImplementedError

    def recount(self) -> None:
        """Have the IDs counted, if that happens only now and then."""

    def fill(self) -> str:
        """Leave no room to store anything; return why requests are refused then."""
        raise NotImplementedError

    def empty(self) -> None:
        """Make room again."""
        raise NotImplementedError

    def describe(self) -> ServiceDocument:
        """Describe the daemon as `GET /` does."""
        ids, unused_days = self.count_ids(), self.unused_days
        return ServiceDocument(
            version="0",
            ids=msgspec.UNSET if ids is None else ids,
            unused_days=msgspec.UNSET if unused_days is None else unused_days,
        )

    def _serve(
        self,
        served: Served,
        system: System,
        telemetry: RequestTelemetry,
        *,
        strict: bool = False,
        max_body: int = 16384,
        access: Access | None = None,
        probe: Probe | None = None,
        create_rate: float = 0.0,
        max_watchers: int = 2000,
        rest: Callable[[float, Callable[[], None]], object] = lambda seconds, call: call(),
    ) -> None:
        self.directory, self.names = served.directory, served.names
        self.health, self.leaders, self.telemetry = served.health, served.leaders, telemetry
        delay = ReactorDelayMonitor(self.clock)
        delay.setServiceParent(self.background)
        self.status = StatusCollector(self.describe, lambda: None, self.health, self.recent, etcd=served.etcd)
        self.rounds = None if probe is None else probe.scheduler(system, self.directory, self.counts.probe_lookups)
        sources = [*base_metrics(self.counts, telemetry, delay), *served.metrics]
        self.judge = ClusterJudge(self.directory, self.rounds, self.leaders, self.wall_us)
        self.health_counter = HealthCounter(self.directory, self.judge, self.clock)
        self.page = MetricsPage(
            [
                *sources,
                health_metrics(self.health_counter),
                *([] if self.rounds is None else [probe_metrics(self.rounds)]),
            ]
        )
        self.apis = Apis(
            HTTPContext(
                directory=self.directory,
                clock=self.clock,
                rest=rest,
                wall_us=self.wall_us,
                deadlines=self.deadlines,
                telemetry=telemetry,
                health=self.health,
                describe=self.describe,
                limits=HTTPLimits(
                    max_body=max_body, strict_addresses=strict, create_rate=create_rate, max_watchers=max_watchers
                ),
                judge=self.judge,
                access=access,
                backups=served.backups,
                node_health=self.rounds,
                leaders=self.leaders,
                metrics=self.page,
                status=self.status,
            )
        )


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a backend that the APIs show; see `service.wiring.backend.Backend`."""

    directory: Directory
    names: Any
    health: DaemonHealth
    leaders: LeaderMonitor
    metrics: Sequence[MetricSource]
    etcd: EtcdMonitored | None = None
    backups: Backups | None = None


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
