"""Builds the backend of a daemon whose records are in etcd. Not loaded without `--etcd`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.environment import Environment
from rqdisco.backends.etcd.assembly import BackendConfig, BackendContext, EtcdBackend
from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.last_seen import LastSeenFile, compare, remember
from rqdisco.backends.etcd.metrics import etcd_metrics
from rqdisco.backends.etcd.monitor import EtcdMonitor, MonitoredKeys
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.etcd.service import EtcdBackendService, LastSeenSaver
from rqdisco.backends.etcd.startup import check, wait_for_etcd
from rqdisco.backends.etcd.transport.connections import PooledTransport
from rqdisco.backends.etcd.transport.interfaces import PostTransport, StreamTransport
from rqdisco.backends.etcd.transport.streams import AgentStreams, stream_agent
from rqdisco.backends.leader_monitor import LeaderMonitor, raft_address
from rqdisco.backends.metrics import freeze_metrics
from rqdisco.core.errors import EtcdAccessDenied, NoSuchID
from rqdisco.core.records import Moment, Record
from rqdisco.http_client.network import Network
from rqdisco.security.certificates import Certificates
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.security.tls import ClientPolicy
from rqdisco.service.config import Config, EtcdConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.backend import Backend, OpenedBackend
from rqdisco.service.worker_threads import WorkerThreads
from rqdisco.storage.files import Disk
from rqdisco.storage.state_directory import lock_directory
from rqdisco.telemetry.events import Event, Events
from rqdisco.telemetry.health import DaemonHealth

_DAY_SECONDS = 24 * 60 * 60.0

_log = Logger()


def open_etcd_backend(
    config: Config, etcd: EtcdConfig, system: System, threads: WorkerThreads, certificates: Certificates
) -> OpenedBackend:
    """Read the files that the options name, and lock the state directory if there is one; nothing is
    sent to etcd yet. Raises a kind of CannotStart.
    """
    transport, streams = etcd_transports(etcd, system.reactor, certificates)
    opened = open_over_transport(config, etcd, system, threads, transport, streams)
    if config.data_dir is not None:
        lock_directory(Disk(), config.data_dir)
    return opened


# A reactor that connects, resolves names and has timers; no interface joins these.
def etcd_transports(etcd: EtcdConfig, reactor: Any, certificates: Certificates) -> tuple[PooledTransport, AgentStreams]:
    """Return the connections to etcd, for single requests and for streams. Raises TLSUnusable."""
    policy = None
    if any(each.startswith("https:") for each in etcd.endpoints):
        policy = ClientPolicy(certificates.for_clients("etcd", etcd.tls))
    network = Network(reactor, policy)
    return PooledTransport(network, reactor), AgentStreams(stream_agent(reactor, network), reactor)


def open_over_transport(
    config: Config,
    etcd: EtcdConfig,
    system: System,
    threads: WorkerThreads,
    transport: PostTransport,
    streams: StreamTransport,
) -> OpenedBackend:
    """As `open_etcd_backend`, over given transports."""
    credentials = etcd_credentials(etcd)
    file = None if config.data_dir is None else LastSeenFile(config.data_dir)
    before = None if file is None else file.load()
    machine = _name_machine(system) if before is None else before.machine

    def build(events: Events) -> Backend:
        guard, counts = RevisionGuard(Seen(), partial(_went_back, events)), EtcdCounts()
        client = EtcdClient(
            ClientConfig(etcd.endpoints, credentials), transport, streams, system.reactor, guard, counts
        )

        async def find(discovery_id: str) -> Record | None:
            try:
                return await backend.directory.inspect(discovery_id)
            except NoSuchID:
                return None

        leaders = LeaderMonitor(system.reactor, events)
        claims = ClaimMonitor(system.reactor, find, rechecks=True)
        backend = EtcdBackend(
            BackendConfig(
                prefix=etcd.prefix,
                limits=config.limits,
                machine=machine,
                unused_seconds=None if config.unused_days is None else config.unused_days * _DAY_SECONDS,
                stale_seconds=etcd.serve_stale,
            ),
            BackendContext(
                client=client,
                guard=guard,
                clock=system.reactor,
                uptime=system.uptime,
                environment=Environment(now=_no_moment, wall_us=system.wall_us, random=system.random),
                jitter=system.jitter,
                count=lambda: monitor.ids,
                write_objection=lambda: monitor.write_objection,
                observer=DecisionObserver(leaders, claims),
                soon=system.call_soon,
            ),
        )
        keys = MonitoredKeys(backend.keys.meta, backend.keys.ids)
        monitor = EtcdMonitor(client, etcd.endpoints, keys, backend.state, counts, system.reactor, system.jitter)

        async def check_and_begin() -> None:
            attempt = partial(check, client, etcd.endpoints, backend.keys.meta, backend.open)
            await wait_for_etcd(attempt, system.reactor, etcd.wait, monitor.waiting)
            if before is not None:
                compare(before, backend.state.meta, guard)
            if memory is not None:
                # From now on records contain the machine's name, so a power cut must not change it.
                await memory.save()
            monitor.begin()
            _log.info("etcd is in use", prefix=etcd.prefix, store=backend.state.meta.store_id)

        memory = None
        if file is not None:
            current = partial(remember, guard, backend.state, machine)
            memory = LastSeenSaver(file, current, threads.add("memory"), system.reactor)
        return Backend(
            directory=backend.directory,
            names=backend.names,
            health=DaemonHealth(lambda: None, monitor, claims.notes),
            leaders=leaders,
            count_ids=lambda: monitor.ids,
            count_nodes=None,
            metrics=[
                etcd_metrics(monitor, backend.state, counts),
                freeze_metrics(backend.directory),
            ],
            service=EtcdBackendService(backend, monitor, transport, memory),
            background=[leaders, claims],
            check=check_and_begin,
            etcd=monitor,
        )

    return OpenedBackend(incarnation=machine, build=build)


def _name_machine(system: System) -> str:
    """Return the name of the machine in records: the same for all daemons, and after each start,
    where loopback addresses are the same. A container has its own.
    """
    if system.network is None:
        return system.random(8).hex()
    return sha256(system.network.encode()).hexdigest()[:16]


def _reporting(record: Record) -> str | None:
    """Return the leader that reported itself, None if none did."""
    return raft_address(record, record.leader) if record.leader is not None and record.confirmed else None


class DecisionObserver:
    """Passes on the claims and reports that this daemon decided about."""

    def __init__(self, leaders: LeaderMonitor, claims: ClaimMonitor) -> None:
        self._leaders = leaders
        self._claims = claims

    def claimed(self, discovery_id: str) -> None:
        self._claims.claimed(discovery_id.encode())

    def reported(self, before: Record, after: Record) -> None:
        self._claims.ended(after.id.encode())
        now = _reporting(after)
        if now is None:
            return
        # The leader before may have reported itself at another daemon.
        previous = _reporting(before)
        if previous not in (None, now):
            self._leaders.reported(after.id, previous, before.version)
        self._leaders.reported(after.id, now, after.version)


def _no_moment() -> Moment:
    raise AssertionError("nothing is decided by a daemon's own clock (E4)")


def _went_back(events: Events, reason: str) -> None:
    _log.critical("etcd seems to be restored from a backup, and nothing is granted any more", reason=reason)
    events.publish(Event(kind="fence", outcome="fenced", why=reason, logged=False))


def etcd_credentials(etcd: EtcdConfig) -> Callable[[], Credentials] | None:
    """Return a function that reads the password file anew. Raises EtcdAccessDenied."""
    if etcd.user is None or etcd.password_file is None:
        return None
    user, path = etcd.user, etcd.password_file
    try:
        _read_password(path)
    except OSError as error:
        raise EtcdAccessDenied(f"{path}: {error.strerror}; it must hold the password of {user} at etcd") from None
    warn_of_loose_mode(path, "etcd's password")
    return lambda: Credentials(user, _read_password(path))


def _read_password(path: Path) -> str:
    """Read the first line of a file. Raises OSError."""
    return path.read_bytes().decode(errors="replace").partition("\n")[0].rstrip("\r")
