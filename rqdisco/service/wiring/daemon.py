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
from rqdisco.core.directory import Directory
from rqdisco.http.api.metrics import MetricsPage
from rqdisco.http.apis import Apis
from rqdisco.http.context import HTTPContext, HTTPLimits
from rqdisco.http.metrics import connection_metrics
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.requests.runner import ANSWER_SECONDS
from rqdisco.http.ui.daemon_status import StatusCollector
from rqdisco.probes.cluster_judge import ClusterJudge
from rqdisco.probes.health_counter import INTERVAL_OVER_ETCD_SECONDS, INTERVAL_SECONDS, HealthCounter
from rqdisco.probes.metrics import health_metrics, probe_metrics
from rqdisco.probes.prober import Endpoints, Prober, tcp_endpoints
from rqdisco.probes.resolution.host_names import MAX_LOOKUPS, HostNames, Resolve
from rqdisco.probes.resolution.system_resolver import SystemResolver
from rqdisco.probes.scheduler import ProbeLimits, ProbeScheduler
from rqdisco.probes.targets import AllowedAddresses
from rqdisco.security.certificate_expiry import CertificateExpiryMonitor
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config, ProbeConfig
from rqdisco.service.environment import unknown_variables
from rqdisco.service.lifecycle import Daemon, DaemonParts
from rqdisco.service.listeners import HTTPListener
from rqdisco.service.metrics import certificate_metrics
from rqdisco.service.system import System
from rqdisco.service.systemd import Notifier
from rqdisco.service.token_reload import ReloadingTokens, TokenFileMonitor
from rqdisco.service.wiring.backend import OpenedBackend
from rqdisco.service.wiring.listeners import ListenerContext, build_endpoints, build_listeners
from rqdisco.service.wiring.stored import open_stored_backend
from rqdisco.service.wiring.telemetry import base_metrics, build_audit_log, build_request_telemetry, new_counts
from rqdisco.service.worker_threads import WorkerThreads
from rqdisco.telemetry.counters import Histogram, LookupCounts
from rqdisco.telemetry.health import DaemonHealth
from rqdisco.telemetry.metrics import audit_metrics
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor
from rqdisco.telemetry.recent import RecentActivity

_log = Logger()


def build_daemon(config: Config, system: System) -> Daemon:
    """Build the daemon that `config` describes. Raises a subclass of CannotStart."""
    reactor = system.reactor
    counts = new_counts()
    for why in unknown_variables(system.environment):
        _log.warn("unknown variable in the environment: {why}", why=why)

    # Their errors are reported before a file is written or a socket is bound.
    tokens = None if config.tokens is None else ReloadingTokens(config.tokens)
    access = None if tokens is None else tokens.access
    certificates = Certificates(reactor.seconds)
    endpoints = build_endpoints(config, system, certificates)

    # Storage
    threads = WorkerThreads(reactor)
    opened = _open_backend(config, system, threads, certificates, counts.syncs)

    # Telemetry
    recent = RecentActivity(reactor.seconds, system.wall_us)
    audit = build_audit_log(config, system, opened.incarnation, threads)
    telemetry = build_request_telemetry(system, counts, recent, audit)
    reactor_delay = ReactorDelayMonitor(reactor)
    certificate_expiry = CertificateExpiryMonitor(reactor, certificates, system.wall)

    # Backend
    backend = opened.build(telemetry.events)
    health, peers = backend.health, backend.peers

    # Probes
    probes = None
    if config.probing is not None:
        resolver = SystemResolver(reactor, MAX_LOOKUPS)
        probes = build_probe_scheduler(
            config.probing, system, backend.directory, tcp_endpoints(reactor), resolver, counts.probe_lookups
        )

    judge = ClusterJudge(backend.directory, probes, backend.leaders, system.wall_us)
    interval = INTERVAL_SECONDS if backend.etcd is None else INTERVAL_OVER_ETCD_SECONDS
    health_counter = HealthCounter(backend.directory, judge, reactor, interval)

    # APIs
    describe = partial(_describe, config, backend.count_ids, system.uptime, system.uptime())
    status = StatusCollector(
        describe,
        backend.count_nodes,
        health,
        recent,
        None if peers is None else peers.report.as_object,
        backend.disk,
        backend.etcd,
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
            judge=judge,
            access=access,
            cluster_admin=None if peers is None else peers.admin,
            backups=backend.backups,
            node_health=probes,
            leaders=backend.leaders,
            metrics=metrics_page,
            status=status,
            zone=None if config.dns is None else config.dns.zone.name,
            is_local_only=lambda: all(
                each.is_local_only for each in listeners if isinstance(each, HTTPListener) and each.name == "endpoints"
            ),
        )
    )

    # Listeners
    context = ListenerContext(config, system, certificates, counts, telemetry, probes)
    listeners = build_listeners(context, endpoints, apis, metrics_page, backend)

    # The page is served by sites whose connections it counts, so its sources come last.
    metrics_page.sources += [
        *base_metrics(counts, telemetry, reactor_delay),
        *backend.metrics,
        connection_metrics({each.name: each.site for each in listeners if isinstance(each, HTTPListener)}),
        health_metrics(health_counter),
        certificate_metrics(certificates.expiries),
        *([] if audit is None else [audit_metrics(audit)]),
        *([] if probes is None else [probe_metrics(probes)]),
    ]

    # SIGHUP
    system.on_hangup(certificates.reload)
    if audit is not None:
        system.on_hangup(audit.reopen)
    if tokens is not None:
        system.on_hangup(partial(tokens.reload, telemetry.events))
    if peers is not None:
        system.on_hangup(peers.reload_keys)
    system.on_hangup(partial(_log_status, describe, health, certificates))

    # The service
    token_file = None if tokens is None else TokenFileMonitor(reactor, tokens, telemetry.events)
    background = [reactor_delay, audit, probes, health_counter, token_file, *backend.background, certificate_expiry]
    return Daemon(
        reactor,
        DaemonParts(
            listeners=listeners,
            deadlines=deadlines,
            health=health,
            backend=backend.service,
            check=backend.check,
            notifier=Notifier(reactor, system.environment, system.pid),
            background=_group_services(background),
            stop_threads=threads.stop,
            announce=system.announce,
        ),
        system.refuse,
        drain_timeout=config.drain_timeout,
    )


def _open_backend(
    config: Config, system: System, threads: WorkerThreads, certificates: Certificates, syncs: Histogram
) -> OpenedBackend:
    if config.etcd is None:
        return open_stored_backend(config, system, threads, certificates, syncs)
    from rqdisco.service.wiring.etcd import open_etcd_backend

    return open_etcd_backend(config, config.etcd, system, threads, certificates)


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
    config: Config, count_ids: Callable[[], int | None], uptime: Callable[[], float], started: float
) -> ServiceDocument:
    ids = count_ids()
    return ServiceDocument(
        version=__version__,
        uptime=int(uptime() - started),
        ids=msgspec.UNSET if ids is None else ids,
        unused_days=msgspec.UNSET if config.unused_days is None else config.unused_days,
    )


def _log_status(describe: Callable[[], ServiceDocument], health: DaemonHealth, certificates: Certificates) -> None:
    ends = {where: end.isoformat() for where, end in certificates.expiries()}
    wrong = health.for_grants().wrong
    _log.info("status", wrong=wrong or None, certificates=ends or None, **msgspec.to_builtins(describe()))


def _group_services(services: Sequence[Service | None]) -> MultiService:
    group = MultiService()
    for service in services:
        if service is not None:
            service.setServiceParent(group)
    return group
