"""The one place where the parts of a daemon are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from rqdisco import __version__
from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.gossip.assembly import GossipBackend
from rqdisco.backends.gossip.cluster_admin import GossipAdmin
from rqdisco.backends.gossip.metrics import peer_metrics
from rqdisco.core.directory import Directory
from rqdisco.dns.metrics import dns_metrics
from rqdisco.http.metrics import connection_metrics, request_metrics
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.runner import ANSWER_SECONDS, RequestTelemetry
from rqdisco.http.router import Apis
from rqdisco.http.server.site import BoundedSite
from rqdisco.http.ui.overview import Overview
from rqdisco.probes.metrics import resolution_metrics
from rqdisco.security.certificate_expiry import CertificateExpiryMonitor
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config
from rqdisco.service.lifecycle import Daemon
from rqdisco.service.metrics import certificate_metrics
from rqdisco.service.system import System
from rqdisco.service.systemd import Notifier
from rqdisco.service.token_reload import ReloadingTokens
from rqdisco.service.wiring.opening import ListenerFactory
from rqdisco.service.wiring.parts import (
    State,
    compactor_of,
    gossip_backend,
    leaders_of,
    opened,
    scheduler_of,
    single_directory,
    sweep_of,
    telemetry_of,
)
from rqdisco.service.wiring.registry import MetricsRegistry
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import snapshot_metrics, wal_metrics
from rqdisco.telemetry.events import Event, Events
from rqdisco.telemetry.health import Health
from rqdisco.telemetry.recent import RecentActivity

_log = Logger()


def assemble(config: Config, machine: System) -> Daemon:
    """The daemon as the options want it. Raises CannotStart's kinds."""
    reactor = machine.reactor
    tokens = None if config.tokens is None else ReloadingTokens(config.tokens)
    access = None if tokens is None else tokens.access
    certificates = Certificates(reactor.seconds)
    machine.on_hangup(certificates.reread)
    watch = MetricsRegistry(reactor)
    opening = ListenerFactory(config, machine, certificates, watch)
    state = opened(config, machine, watch)
    recent = RecentActivity(reactor.seconds, machine.wall_us)
    telemetry = telemetry_of(config, machine, watch, state, recent)
    if tokens is not None:
        machine.on_hangup(partial(tokens.reread, telemetry.events))
    backend = None if config.peers is None else gossip_backend(config, config.peers, machine, state, certificates)
    local = backend.local if backend is not None else single_directory(config, machine, state)
    directory: Directory = local if backend is None else backend.directory
    started = machine.uptime()
    scheduler = None if config.probing is None else scheduler_of(config.probing, machine, local, watch)

    def describe() -> dict[str, Any]:
        uptime = int(machine.uptime() - started)
        known = {"name": "rqdisco", "version": __version__, "uptime": uptime, "ids": local.size}
        return known if config.unused_days is None else {**known, "unused_days": config.unused_days}

    claims = ClaimMonitor(reactor, state.store)
    health = Health(lambda: state.journal.refused, None if backend is None else backend.report, claims.notes)
    show_peers = None if backend is None else backend.report.as_object
    overview = Overview(describe, lambda: _nodes(state.store), health, recent, show_peers)
    deadlines = Deadlines(reactor, ANSWER_SECONDS)
    leaders = leaders_of(machine, state, telemetry.events, watch)
    listeners = Apis(
        directory,
        deadlines,
        describe,
        health,
        reactor,
        machine.wall_us,
        max_body=config.max_body,
        strict=config.strict_addresses,
        peers=None if backend is None else GossipAdmin(backend.report, backend.successions),
        access=access,
        telemetry=telemetry,
        metrics=watch.page,
        node_health=scheduler,
        zone=None if config.dns is None else config.dns.zone.name,
        overview=overview,
        create_rate=config.bounds.create_rate,
        leaders=leaders,
    )
    opening.public(listeners, telemetry, is_guarded=config.is_open or access is not None)
    opening.operator(listeners)
    opening.metrics(telemetry)
    if config.dns is not None:
        state.store.build_name_index()
        opening.names(config.dns, directory, scheduler)

    watch.keep(sweep_of(config, machine, state, local, backend, telemetry.events))

    def say_status() -> None:
        ends = {where: end.isoformat() for where, end in certificates.expiries()}
        _log.info("status", refused=state.journal.refused, certificates=ends or None, **describe())

    machine.on_hangup(say_status)
    if backend is not None and config.peers is not None:
        opening.peers(config.peers, backend)
        backend.peers.guard.on_fenced = partial(_report_fenced, telemetry.events)
    compactor = compactor_of(config, machine, state)
    _show(watch, telemetry, state, compactor, opening.sites, backend, claims)
    overview.show_disk(state.journal, compactor)
    watch.show(certificate_metrics(lambda: {where: end.timestamp() for where, end in certificates.expiries()}))
    watch.keep(CertificateExpiryMonitor(reactor, certificates, machine.wall))
    return Daemon(
        reactor,
        opening.listeners,
        deadlines,
        local,
        state.journal,
        health,
        compactor,
        Notifier(reactor, machine.environment, machine.pid),
        machine.refuse,
        partial(_end, state.finish),
        None if backend is None else backend.peers,
        watch,
        drain_timeout=config.drain_timeout,
    )


def _nodes(store: Store) -> int | None:
    return store.node_counter.nodes if store.node_counter is not None and store.node_counter.is_complete else None


def _show(
    watch: MetricsRegistry,
    telemetry: RequestTelemetry,
    state: State,
    compactor: Compactor,
    sites: Mapping[str, BoundedSite],
    backend: GossipBackend | None,
    claims: ClaimMonitor,
) -> None:
    """Have all parts on the page of metrics."""

    def is_ownerless(owner: str) -> bool:
        return owner != state.owner and (backend is None or backend.report.is_ownerless(owner))

    watch.count_all(state.store, is_ownerless, claims)
    watch.show(request_metrics(watch.requests, telemetry.refusals))
    watch.show(connection_metrics(sites))
    watch.show(dns_metrics(watch.dns))
    watch.show(resolution_metrics(watch.look_ups))
    watch.show(wal_metrics(state.journal, watch.syncs))
    watch.show(snapshot_metrics(compactor))
    if backend is not None:
        watch.show(peer_metrics(backend.report.status))


def _end(finish: Sequence[Callable[[], None]]) -> None:
    for each in finish:
        each()


def _report_fenced(events: Events, why: str) -> None:
    # Whoever found it out has logged it.
    events.tell(Event(kind="fence", outcome="fenced", why=why, logged=False))
