"""The common part of all daemons in memory, on a clock that the test controls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.limits import Limits
from rqdisco.core.directory import Directory
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
from rqdisco.service.config import ProbeConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.daemon import build_probe_scheduler
from rqdisco.service.wiring.telemetry import base_metrics, new_counts
from rqdisco.storage.backup import Backups
from rqdisco.telemetry.counters import LookupCounts
from rqdisco.telemetry.health import DaemonHealth
from rqdisco.telemetry.metrics import MetricSource
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor
from rqdisco.telemetry.recent import RecentActivity
from tests.support.network import ProbedNetwork
from tests.support.resolver import Resolver

WALL_US = 1_795_000_000_000_000


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


class AnyDaemon(ABC):
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
        counted: list[int] = []
        Deferred.fromCoroutine(self.directory.count()).addCallback(counted.append)
        return counted[0]

    @abstractmethod
    def count_ids(self) -> int | None:
        """Return the number of IDs as `GET /` shows it."""

    @abstractmethod
    def recount(self) -> None:
        """Have the IDs counted, if that happens only now and then."""

    @abstractmethod
    def fill(self) -> str:
        """Leave no room to store anything; return why requests are refused then."""

    @abstractmethod
    def empty(self) -> None:
        """Make room again."""

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
