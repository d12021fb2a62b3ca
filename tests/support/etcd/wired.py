"""The backend of a daemon over a model etcd, built as the daemon builds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from rqdisco.core.errors import CannotStart
from rqdisco.core.records import Node
from rqdisco.service.config import Config
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.backend import Backend
from rqdisco.service.wiring.etcd import open_over_transport
from rqdisco.telemetry.events import Event, Events
from rqdisco.telemetry.health import Condition
from tests.support.any_daemon import WALL_US, memory_system
from tests.support.daemon import result
from tests.support.etcd.daemon import Cluster


class InlineThreads:
    """Runs the calls of all threads at once."""

    def add(self, name: str) -> Callable[[Callable[[], Any]], Deferred[Any]]:
        return maybeDeferred


class Wired:
    """A daemon's backend, in the network namespace `network`. `refusal` is why it cannot start,
    `checked` whether it can.
    """

    def __init__(self, cluster: Cluster, *options: str, seed: int = 0, network: str | None = None) -> None:
        self.cluster, self.clock = cluster, cluster.clock
        self.transport = cluster.transport()
        self.events: list[Event] = []
        self.refusal: CannotStart | None = None
        self.checked = False
        config = self._config(options)
        assert config.etcd is not None
        system = memory_system(
            self.clock,
            Random(seed),
            wall_us=lambda: WALL_US,
            fail=lambda _: None,
            jitter=lambda: 1.0,
            network=network,
        )
        threads: Any = InlineThreads()
        opened = open_over_transport(config, config.etcd, system, threads, self.transport, cluster.streams())
        self.incarnation = opened.incarnation
        self.backend: Backend = opened.build(Events(self.events.append))
        self.checking: Deferred[None] | None = None

    def start(self) -> None:
        """Start the services, and the check."""
        self.backend.service.startService()
        for service in self.backend.background:
            service.startService()
        self.checking = Deferred.fromCoroutine(self._check())

    def stop(self) -> None:
        """Stop as the daemon does."""
        result(maybeDeferred(self.backend.service.stopService))
        for service in self.backend.background:
            service.stopService()

    def lists(self) -> Condition:
        return self.backend.health.for_lists()

    def grants(self) -> Condition:
        return self.backend.health.for_grants()

    def metric(self, name: str, *labels: str) -> float | None:
        """Return the value of a metric, None if there is none."""
        samples = [s for source in self.backend.metrics for family in source() for s in family.samples]
        found = [s.value for s in samples if s.name == name and tuple(s.labels.values()) == labels]
        return found[0] if found else None

    async def _check(self) -> None:
        try:
            await self.backend.check()
            self.checked = True
        except CannotStart as refusal:
            self.refusal = refusal

    def _config(self, options: tuple[str, ...]) -> Config:
        parsed = DaemonOptions({})
        parsed.parseOptions([*(f"--etcd={each}" for each in self.cluster.endpoints), *options])
        return parsed.config


def started(cluster: Cluster, *options: str, seed: int = 0, network: str | None = None) -> Wired:
    """Return a backend whose check has passed."""
    wired = Wired(cluster, *options, seed=seed, network=network)
    wired.start()
    assert wired.checked, wired.refusal
    return wired


def data_dir(path: Path) -> str:
    return f"--data-dir={path}"


def pass_time(wired: Wired, seconds: float) -> None:
    """Let time pass, in small steps."""
    wired.clock.pump([0.05] * int(seconds * 20))


def create(wired: Wired) -> str:
    """Create an ID."""
    record = result(Deferred.fromCoroutine(wired.backend.directory.create()))
    return str(record.id)


def register(wired: Wired, discovery_id: str, addr: str = "10.0.0.1:4001") -> Deferred[Any]:
    """Begin to register a node."""
    return Deferred.fromCoroutine(wired.backend.directory.register(discovery_id, Node(addr=addr), None))


def logged(log: list[dict[str, Any]]) -> list[str]:
    """Return what the monitor logged."""
    return [event["log_format"] for event in log if event["log_namespace"].endswith("EtcdMonitor")]
