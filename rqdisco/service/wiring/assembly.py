"""The one place where the parts of a daemon are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from rqdisco import __version__
from rqdisco.backends.claim_monitor import WaitingClaims
from rqdisco.backends.gossip.assembly import Peered
from rqdisco.backends.gossip.cluster_admin import Office
from rqdisco.backends.gossip.metrics import peer_metrics
from rqdisco.core.directory import Directory
from rqdisco.dns.metrics import dns_metrics
from rqdisco.http.metrics import connection_metrics, request_metrics
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.runner import ANSWER_SECONDS, Books
from rqdisco.http.router import Doors
from rqdisco.http.server.site import BoundedSite
from rqdisco.http.ui.overview import Overview
from rqdisco.probes.metrics import resolution_metrics
from rqdisco.security.certificate_expiry import Renewals
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config
from rqdisco.service.lifecycle import Daemon
from rqdisco.service.metrics import certificate_metrics
from rqdisco.service.system import Machine
from rqdisco.service.systemd import Notifier
from rqdisco.service.token_reload import Tokens
from rqdisco.service.wiring.opening import Opening
from rqdisco.service.wiring.parts import (
    State,
    alone,
    books_of,
    folder_of,
    leaders_of,
    opened,
    peered_of,
    rounds_of,
    sweep_of,
)
from rqdisco.service.wiring.registry import Watch
from rqdisco.storage.compactor import Folder
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import snapshot_metrics, wal_metrics
from rqdisco.telemetry.events import Event, Events
from rqdisco.telemetry.health import Health
from rqdisco.telemetry.recent import Recent

_log = Logger()


def assemble(config: Config, machine: Machine) -> Daemon:
    """The daemon as the options want it. Raises CannotStart's kinds."""
    reactor = machine.reactor
    tokens = None if config.tokens is None else Tokens(config.tokens)
    access = None if tokens is None else tokens.access
    certificates = Certificates(reactor.seconds)
    machine.on_hangup(certificates.reread)
    watch = Watch(reactor)
    opening = Opening(config, machine, certificates, watch)
    state = opened(config, machine, watch)
    recent = Recent(reactor.seconds, machine.wall_us)
    books = books_of(config, machine, watch, state, recent)
    if tokens is not None:
        machine.on_hangup(partial(tokens.reread, books.events))
    peered = None if config.peers is None else peered_of(config, config.peers, machine, state, certificates)
    local = peered.local if peered is not None else alone(config, machine, state)
    directory: Directory = local if peered is None else peered.directory
    started = machine.uptime()
    rounds = None if config.probing is None else rounds_of(config.probing, machine, local, watch)

    def describe() -> dict[str, Any]:
        uptime = int(machine.uptime() - started)
        known = {"name": "rqdisco", "version": __version__, "uptime": uptime, "ids": local.size}
        return known if config.unused_days is None else {**known, "unused_days": config.unused_days}

    claims = WaitingClaims(reactor, state.store)
    health = Health(lambda: state.journal.refused, None if peered is None else peered.report, claims.notes)
    show_peers = None if peered is None else peered.report.as_object
    overview = Overview(describe, lambda: _nodes(state.store), health, recent, show_peers)
    deadlines = Deadlines(reactor, ANSWER_SECONDS)
    leaders = leaders_of(machine, state, books.events, watch)
    doors = Doors(
        directory,
        deadlines,
        describe,
        health,
        reactor,
        machine.wall_us,
        max_body=config.max_body,
        strict=config.strict_addresses,
        peers=None if peered is None else Office(peered.report, peered.successions),
        access=access,
        books=books,
        metrics=watch.page,
        outlook=rounds,
        zone=None if config.dns is None else config.dns.zone.name,
        overview=overview,
        mint_rate=config.bounds.mint_rate,
        leaders=leaders,
    )
    opening.public(doors, books, is_guarded=config.is_open or access is not None)
    opening.operator(doors)
    opening.metrics(books)
    if config.dns is not None:
        state.store.learn_spellings()
        opening.names(config.dns, directory, rounds)

    watch.keep(sweep_of(config, machine, state, local, peered, books.events))

    def say_status() -> None:
        ends = {where: end.isoformat() for where, end in certificates.expiries()}
        _log.info("status", refused=state.journal.refused, certificates=ends or None, **describe())

    machine.on_hangup(say_status)
    if peered is not None and config.peers is not None:
        opening.peers(config.peers, peered)
        peered.peers.standing.on_fenced = partial(_tell_fenced, books.events)
    folder = folder_of(config, machine, state)
    _show(watch, books, state, folder, opening.sites, peered, claims)
    overview.show_disk(state.journal, folder)
    watch.show(certificate_metrics(lambda: {where: end.timestamp() for where, end in certificates.expiries()}))
    watch.keep(Renewals(reactor, certificates, machine.wall))
    return Daemon(
        reactor,
        opening.doors,
        deadlines,
        local,
        state.journal,
        health,
        folder,
        Notifier(reactor, machine.environment, machine.pid),
        machine.refuse,
        partial(_end, state.finish),
        None if peered is None else peered.peers,
        watch,
        linger=config.linger,
    )


def _nodes(store: Store) -> int | None:
    return store.tally.nodes if store.tally is not None and store.tally.is_whole else None


def _show(
    watch: Watch,
    books: Books,
    state: State,
    folder: Folder,
    sites: Mapping[str, BoundedSite],
    peered: Peered | None,
    claims: WaitingClaims,
) -> None:
    """Have all parts on the page of metrics."""

    def is_orphaned(home: str) -> bool:
        return home != state.home and (peered is None or peered.report.is_orphaned(home))

    watch.count_all(state.store, is_orphaned, claims)
    watch.show(request_metrics(watch.requests, books.refusals))
    watch.show(connection_metrics(sites))
    watch.show(dns_metrics(watch.dns))
    watch.show(resolution_metrics(watch.look_ups))
    watch.show(wal_metrics(state.journal, watch.syncs))
    watch.show(snapshot_metrics(folder))
    if peered is not None:
        watch.show(peer_metrics(peered.report.seen))


def _end(finish: Sequence[Callable[[], None]]) -> None:
    for each in finish:
        each()


def _tell_fenced(events: Events, why: str) -> None:
    # Whoever found it out has logged it.
    events.tell(Event(kind="fence", outcome="fenced", why=why, logged=False))
