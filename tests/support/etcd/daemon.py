"""Daemons over a model etcd, in memory, on a clock that the test controls."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd.assembly import BackendConfig, BackendContext, EtcdBackend
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.meta import decode_meta
from rqdisco.backends.etcd.monitor import COUNT_SECONDS, EtcdMonitor
from rqdisco.backends.etcd.names import KEEP_SECONDS
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import EtcdUnavailable
from rqdisco.core.records import Moment, Record
from rqdisco.http_client.interfaces import PostReply
from rqdisco.security.certificates import Files
from rqdisco.service.config import EtcdConfig
from rqdisco.service.wiring.etcd import open_over_transport
from rqdisco.service.wiring.telemetry import build_request_telemetry
from rqdisco.service.worker_threads import WorkerThreads
from tests.support.any_daemon import WALL_US, AnyDaemon, Served
from tests.support.daemon import default_config, result
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.memory import ModelStreams, ModelTransport
from tests.support.etcd.model import ModelEtcd

PREFIX = "/rqdisco/"


class Cluster:
    """A model etcd of some members, and its transports."""

    def __init__(self, clock: Clock | None = None, members: int = 1) -> None:
        self.clock = clock or Clock()
        names = [f"m{number}" for number in range(1, members + 1)]
        self.model = ModelEtcd(self.clock.seconds, names)
        self.gateway = Gateway(self.model)
        self.endpoints = {f"http://{name}:2379": name for name in names}

    def transport(self) -> ModelTransport:
        return ModelTransport(self.gateway, self.endpoints, self.clock)

    def streams(self) -> ModelStreams:
        return ModelStreams(self.gateway, self.endpoints, self.clock)


class Observed:
    """The reports of the backend to the rest of its daemon."""

    def __init__(self) -> None:
        self.claims: list[str] = []
        self.reports: list[tuple[Record, Record]] = []

    def claimed(self, discovery_id: str) -> None:
        self.claims.append(discovery_id)

    def reported(self, before: Record, after: Record) -> None:
        self.reports.append((before, after))


class Backend(EtcdBackend):
    """The backend of one daemon; `transport` decides what happens to its requests."""

    def __init__(
        self,
        cluster: Cluster,
        seed: int = 0,
        limits: Limits | None = None,
        *,
        seen: Seen | None = None,
        machine: str = "machine",
        **config: Any,
    ) -> None:
        self.cluster = cluster
        self.random = Random(seed)
        # For how many seconds the machine was suspended.
        self.suspended = 0.0
        self.set_by = 0.0
        self.count: int | None = None
        self.objection: EtcdUnavailable | None = None
        self.observed = Observed()
        self.went_back: list[str] = []
        self.transport, self.streams = cluster.transport(), cluster.streams()
        self.guard = RevisionGuard(seen or Seen(), self.went_back.append)
        self.client = EtcdClient(
            ClientConfig(tuple(cluster.endpoints)),
            self.transport,
            self.streams,
            cluster.clock,
            self.guard,
            EtcdCounts(),
        )
        clock = cluster.clock
        environment = Environment(
            now=lambda: Moment(0, int(clock.seconds() * 1000)), wall_us=self.wall_us, random=self.random.randbytes
        )
        super().__init__(
            BackendConfig(prefix=PREFIX, limits=limits or Limits(), machine=machine, **config),
            BackendContext(
                client=self.client,
                guard=self.guard,
                clock=clock,
                uptime=lambda: clock.seconds() + self.suspended,
                environment=environment,
                jitter=lambda: 1.0,
                count=lambda: self.count,
                write_objection=lambda: self.objection,
                observer=self.observed,
            ),
        )

    def wall_us(self) -> int:
        """The wall clock, in microseconds since 1970."""
        return WALL_US + int((self.cluster.clock.seconds() + self.set_by) * 1_000_000)


def opened(cluster: Cluster, seed: int = 0, limits: Limits | None = None, **config: Any) -> Backend:
    """Return a backend that has read the state of the store."""
    backend = Backend(cluster, seed, limits, **config)
    opening = Deferred.fromCoroutine(backend.open())
    failures: list[Any] = []
    opening.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    return backend


class HoldingTransport(ModelTransport):
    """Sends writes at once, or holds them until the test releases them. A write whose request was
    cancelled meanwhile arrives nevertheless.
    """

    hold = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held: list[tuple[tuple[str, str, bytes, str | None, float], Deferred[PostReply]]] = []

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        if not self.hold or b'"request_put"' not in body:
            return super().post(endpoint, path, body, token, seconds)
        done: Deferred[PostReply] = Deferred()
        self.held.append(((endpoint, path, body, token, seconds), done))
        return done

    def release(self) -> None:
        """Send the oldest held write."""
        request, done = self.held.pop(0)
        super().post(*request).addBoth(lambda outcome: None if done.called else done.callback(outcome))

    def release_all(self) -> None:
        while self.held:
            self.release()


class EtcdDaemon(AnyDaemon):
    """Everything of a stateless daemon except its sockets, over the model etcd. Further ones share
    its `cluster`; `served` are options of its APIs.
    """

    # The lease of a claim's window is a second longer, and may be shared for a second.
    claim_window = 31.0
    # New watches wait for others to share their stream, and then look the IDs up once more.
    watch_delays = (0.02, 0.25)
    dns_age = KEEP_SECONDS

    def __init__(
        self,
        cluster: Cluster | None = None,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        clock: Clock | None = None,
        unused_days: float | None = None,
        serve_stale: float = 0.0,
        **served: Any,
    ) -> None:
        super().__init__(clock if cluster is None else cluster.clock, seed, limits, unused_days)
        self.cluster = cluster or Cluster(self.clock)
        self.transport = HoldingTransport(self.cluster.gateway, self.cluster.endpoints, self.clock)
        self.threads = self.transport
        etcd = EtcdConfig(
            endpoints=tuple(self.cluster.endpoints),
            prefix=PREFIX,
            user=None,
            password_file=None,
            tls=Files(),
            wait=0.0,
            serve_stale=serve_stale,
        )
        config = replace(default_config(limits=self.limits), data_dir=None, unused_days=unused_days)
        system = self.system()
        telemetry = build_request_telemetry(system, self.counts, self.recent, None)
        # Nothing runs in them.
        threads: Any = WorkerThreads(cast("Any", self.clock))
        opened = open_over_transport(config, etcd, system, threads, self.transport, self.cluster.streams())
        backend = opened.build(telemetry.events)
        assert isinstance(backend.etcd, EtcdMonitor)
        self.monitor = backend.etcd
        self.machine = opened.incarnation
        backend.leaders.startService()
        for service in (*backend.background, backend.service):
            service.setServiceParent(self.background)
        assert backend.check is not None
        result(Deferred.fromCoroutine(backend.check()))
        meta = f"{PREFIX}v1/meta"
        self.owner = decode_meta(self.cluster.model.keyspace.current[meta.encode()].value, meta).store_id
        self._serve(
            Served(
                directory=backend.directory,
                names=backend.names,
                health=backend.health,
                leaders=backend.leaders,
                metrics=backend.metrics,
                etcd=backend.etcd,
            ),
            system,
            telemetry,
            **served,
        )

    def count_ids(self) -> int | None:
        return self.monitor.ids

    def recount(self) -> None:
        self.clock.advance(COUNT_SECONDS)
        self.monitor.startService()
        self.monitor.stopService()

    def fill(self) -> str:
        self.cluster.model.alarms["NOSPACE"] = next(iter(self.cluster.model.members.values())).id
        return "etcd's database is full (NOSPACE alarm): compact and defragment it, then disarm the alarm"

    def empty(self) -> None:
        self.cluster.model.alarms.clear()

    def restart(self, **options: Any) -> EtcdDaemon:
        """Leave this daemon and start another one, elsewhere."""
        seed = self.random.randrange(1 << 30)
        options = {"limits": self.limits, "unused_days": self.unused_days, **options}
        return EtcdDaemon(self.cluster, seed=seed, **options)
