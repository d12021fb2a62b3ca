"""Daemons over a model etcd, in memory, on a clock that the test controls."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd.assembly import BackendConfig, BackendContext, EtcdBackend
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.single.limits import Limits
from rqdisco.core.records import Moment, Record
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.memory import ModelStreams, ModelTransport
from tests.support.etcd.model import ModelEtcd

PREFIX = "/rqdisco/"
WALL_US = 1_795_000_000_000_000


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
    """What the backend reported to the rest of its daemon."""

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
        self.set_by = 0.0
        self.count: int | None = None
        self.refusal: str | None = None
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
                environment=environment,
                jitter=lambda: 1.0,
                count=lambda: self.count,
                refuses_writes=lambda: self.refusal,
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
