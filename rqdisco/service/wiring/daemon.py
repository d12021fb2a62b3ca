"""Builds a daemon from its options, from top to bottom: storage, telemetry, backend, probes, APIs,
listeners, and the service that starts and stops them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from twisted.application.service import MultiService, Service
from twisted.logger import Logger

from rqdisco import __version__
from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.metrics import freeze_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.directory import Directory
from rqdisco.http.api.metrics import MetricsPage
from rqdisco.http.apis import Apis
from rqdisco.http.context import HTTPContext, HTTPLimits
from rqdisco.http.metrics import connection_metrics
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.requests.runner import ANSWER_SECONDS
from rqdisco.http.ui.daemon_status import StatusCollector
from rqdisco.probes.metrics import probe_metrics
from rqdisco.probes.prober import Endpoints, Prober, tcp_endpoints
from rqdisco.probes.resolution.host_names import MAX_LOOKUPS, HostNames, Resolve
from rqdisco.probes.resolution.system_resolver import SystemResolver
from rqdisco.probes.scheduler import ProbeLimits, ProbeScheduler
from rqdisco.probes.targets import AllowedAddresses
from rqdisco.security.certificate_expiry import CertificateExpiryMonitor
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config, ProbeConfig
from rqdisco.service.lifecycle import Daemon, DaemonParts
from rqdisco.service.listeners import HTTPListener
from rqdisco.service.metrics import certificate_metrics
from rqdisco.service.system import System
from rqdisco.service.systemd import Notifier
from rqdisco.service.token_reload import ReloadingTokens
from rqdisco.service.wiring.backend import (
    Backend,
    build_expiry_sweeper,
    build_leader_monitor,
    build_single_backend,
)
from rqdisco.service.wiring.listeners import ListenerContext, build_endpoints, build_listeners
from rqdisco.service.wiring.storage import Storage, build_compactor, open_storage
from rqdisco.service.wiring.telemetry import (
    base_metrics,
    build_audit_log,
    build_request_telemetry,
    count_records,
    new_counts,
)
from rqdisco.service.worker_threads import WorkerThreads
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import snapshot_metrics
from rqdisco.storage.timed_disk import TimedDisk
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.counters import LookupCounts
from rqdisco.telemetry.events import Events
from rqdisco.telemetry.health import Health
from rqdisco.telemetry.metrics import audit_metrics
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor
from rqdisco.telemetry.recent import RecentActivity

_log = Logger()


def build_daemon(config: Config, system: System) -> Daemon:
    """Build the daemon that `config` describes. Raises CannotStart's kinds."""
    reactor = system.reactor
    counts = new_counts()

    # What is wrong with these is reported before the state directory is locked.
    tokens = None if config.tokens is None else ReloadingTokens(config.tokens)
    access = None if tokens is None else tokens.access
    certificates = Certificates(reactor.seconds)
    public_endpoints = build_endpoints("listen", config.listen, system, certificates)

    # Storage
    threads = WorkerThreads(reactor)
    disk = TimedDisk(reactor.seconds, counts.syncs)
    storage = open_storage(config, system, disk, threads.add("journal"))
    compactor = build_compactor(config, system, storage)

    # Telemetry
    recent = RecentActivity(reactor.seconds, system.wall_us)
    audit = build_audit_log(config, system, storage, threads)
    telemetry = build_request_telemetry(system, counts, recent, audit)
    reactor_delay = ReactorDelayMonitor(reactor)
    certificate_expiry = CertificateExpiryMonitor(reactor, certificates, system.wall)

    # Backend
    backend = _build_backend(config, system, storage, certificates, telemetry.events)
    peers = backend.peers
    claims = ClaimMonitor(reactor, storage.store)
    leaders = build_leader_monitor(system, storage, telemetry.events)
    initial_count = count_records(reactor, storage, claims)
    sweeper = build_expiry_sweeper(config.unused_days, system, storage, backend, telemetry.events)

    # Probes
    probes = None
    if config.probing is not None:
        resolver = SystemResolver(reactor, MAX_LOOKUPS)
        probes = build_probe_scheduler(
            config.probing, system, backend.local, tcp_endpoints(reactor), resolver, counts.probe_lookups
        )

    # APIs
    describe = partial(_describe, config, backend.local, system.uptime, system.uptime())
    health = Health(
        lambda: storage.journal.refused,
        None if peers is None else peers.report,
        claims.notes,
        lambda: backend.directory.frozen,
    )
    status = StatusCollector(
        describe,
        partial(_count_nodes, storage.store),
        health,
        recent,
        None if peers is None else peers.report.as_object,
        (storage.journal, compactor),
    )
    deadlines = Deadlines(reactor, ANSWER_SECONDS)
    metrics_page = MetricsPage([])
    apis = Apis(
        HTTPContext(
            directory=backend.directory,
            clock=reactor,
            rest=reactor.callLater,
            wall_us=system.wall_us,
            deadlines=deadlines,
            telemetry=telemetry,
            health=health,
            describe=describe,
            limits=HTTPLimits(
                max_body=config.max_body,
                strict_addresses=config.strict_addresses,
                create_rate=config.bounds.create_rate,
            ),
            access=access,
            cluster_admin=None if peers is None else peers.admin,
            node_health=probes,
            leaders=leaders,
            metrics=metrics_page,
            status=status,
            zone=None if config.dns is None else config.dns.zone.name,
        )
    )

    # Listeners
    if config.dns is not None:
        storage.store.build_name_index()
    context = ListenerContext(config, system, certificates, counts, telemetry, probes)
    listeners = build_listeners(context, public_endpoints, apis, metrics_page, backend)

    # The page is served by sites whose connections it counts, so its sources come last.
    metrics_page.sources += [
        *base_metrics(counts, telemetry, storage, backend.is_ownerless, reactor_delay, claims, leaders),
        connection_metrics({each.name: each.site for each in listeners if isinstance(each, HTTPListener)}),
        snapshot_metrics(compactor),
        freeze_metrics(backend.directory),
        certificate_metrics(certificates.expiries),
        *([] if audit is None else [audit_metrics(audit)]),
        *([] if probes is None else [probe_metrics(probes)]),
        *([] if peers is None else [peers.metrics]),
    ]

    # SIGHUP
    system.on_hangup(certificates.reload)
    if audit is not None:
        system.on_hangup(audit.reopen)
    if tokens is not None:
        system.on_hangup(partial(tokens.reload, telemetry.events))
    if peers is not None:
        system.on_hangup(peers.reload_keys)
    system.on_hangup(partial(_log_status, describe, storage.journal, certificates))

    # The service
    background = [reactor_delay, audit, probes, leaders, initial_count, claims, sweeper, certificate_expiry]
    return Daemon(
        reactor,
        DaemonParts(
            listeners=listeners,
            deadlines=deadlines,
            directory=backend.local,
            journal=storage.journal,
            health=health,
            compactor=compactor,
            notifier=Notifier(reactor, system.environment, system.pid),
            peers=None if peers is None else peers.service,
            background=_group_services(background),
            stop_threads=threads.stop,
        ),
        system.refuse,
        drain_timeout=config.drain_timeout,
    )


def _build_backend(
    config: Config, system: System, storage: Storage, certificates: Certificates, events: Events
) -> Backend:
    """Build the backend that the options ask for: gossip if there are peers, else the single one.

    Raises PeersMissing, KeysUnusable, TLSUnusable.
    """
    if config.peers is None and not storage.metadata:
        return build_single_backend(config, system, storage)
    from rqdisco.service.wiring.gossip import build_gossip_backend, check_without_peers

    if config.peers is not None:
        return build_gossip_backend(config, config.peers, system, storage, certificates, events)
    check_without_peers(config, storage)
    return build_single_backend(config, system, storage)


def build_probe_scheduler(
    config: ProbeConfig,
    system: System,
    directory: Directory,
    endpoints: Endpoints,
    resolve: Resolve,
    counts: LookupCounts,
) -> ProbeScheduler:
    """Build the service that probes the nodes of all IDs this daemon stores, over `endpoints`."""
    return ProbeScheduler(
        directory,
        Prober(endpoints, system.reactor),
        HostNames(system.reactor, resolve, "a registered host name does not resolve", counts),
        ProbeLimits(interval=config.interval, rate=config.rate, allowed=AllowedAddresses(config.allowed)),
        system.reactor,
        system.jitter,
    )


def _describe(
    config: Config, directory: SingleDirectory, uptime: Callable[[], float], started: float
) -> ServiceDocument:
    return ServiceDocument(
        version=__version__,
        uptime=int(uptime() - started),
        ids=directory.size,
        unused_days=msgspec.UNSET if config.unused_days is None else config.unused_days,
    )


def _count_nodes(store: Store) -> int | None:
    """Return the number of registered nodes; None until all records are counted."""
    counter = store.node_counter
    return counter.nodes if counter is not None and counter.is_complete else None


def _log_status(describe: Callable[[], ServiceDocument], journal: Journal, certificates: Certificates) -> None:
    ends = {where: end.isoformat() for where, end in certificates.expiries()}
    _log.info("status", refused=journal.refused, certificates=ends or None, **msgspec.to_builtins(describe()))


def _group_services(services: Sequence[Service | None]) -> MultiService:
    group = MultiService()
    for service in services:
        if service is not None:
            service.setServiceParent(group)
    return group
