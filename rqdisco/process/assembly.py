"""The one place where the parts of a daemon are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rqdisco import __version__
from rqdisco.directory import Directory
from rqdisco.errors import PeersMissing
from rqdisco.expiry import Marks
from rqdisco.home.calendar import Calendar
from rqdisco.home.local import LocalDirectory
from rqdisco.home.sweep import Sweep
from rqdisco.journal.child import run_fold
from rqdisco.journal.files import Disk
from rqdisco.journal.folder import Folder
from rqdisco.journal.recovery import Recovered
from rqdisco.journal.reserve import Reserve
from rqdisco.journal.segments import SegmentWriter
from rqdisco.journal.state import open_state
from rqdisco.journal.timed import TimedDisk
from rqdisco.journal.writer import Journal
from rqdisco.metrics import sources
from rqdisco.metrics.watch import Watch
from rqdisco.observability.audit import AuditLog
from rqdisco.observability.audit_file import AuditFile
from rqdisco.observability.events import Event, Events, log_event
from rqdisco.observability.health import Health
from rqdisco.observability.recent import Recent
from rqdisco.peers.assembly import Peered, Peering, kept_notes, known_members
from rqdisco.peers.office import Office
from rqdisco.peers.wire.http_link import Keys
from rqdisco.peers.wire.process import links, read_keys
from rqdisco.probing.knock import Knocker, tcp_endpoints
from rqdisco.probing.rounds import Rounds
from rqdisco.probing.targets import Allowed
from rqdisco.process.certificates import Certificates
from rqdisco.process.config import Config, PeerConfig, ProbeConfig
from rqdisco.process.daemon import Daemon
from rqdisco.process.machine import Machine
from rqdisco.process.opening import Opening
from rqdisco.process.renewals import Renewals
from rqdisco.process.systemd import Notifier
from rqdisco.process.tls import Policy
from rqdisco.process.tokens import Tokens
from rqdisco.records import Moment
from rqdisco.resolving.hosts import AT_ONCE, HostNames
from rqdisco.resolving.system import SystemResolver
from rqdisco.store import Store
from rqdisco.web.connections.site import BoundedSite
from rqdisco.web.pages.overview import Overview
from rqdisco.web.requests.deadlines import Deadlines
from rqdisco.web.requests.handling import ANSWER_SECONDS, Books
from rqdisco.web.requests.request_ids import RequestIDs
from rqdisco.web.root import Doors

_DAY_MS = 24 * 60 * 60 * 1000

_log = Logger()


class _State(msgspec.Struct, frozen=True):
    """What was found in the state directory, and what it is kept up with."""

    home: str
    found: Recovered
    store: Store
    journal: Journal
    now: Callable[[], Moment]
    finish: list[Callable[[], None]]


def assemble(config: Config, machine: Machine) -> Daemon:
    """The daemon as the options want it. Raises CannotStart's kinds."""
    reactor = machine.reactor
    tokens = None if config.tokens is None else Tokens(config.tokens)
    access = None if tokens is None else tokens.access
    certificates = Certificates(reactor.seconds)
    machine.on_hangup(certificates.reread)
    watch = Watch(reactor)
    opening = Opening(config, machine, certificates, watch)
    state = _open(config, machine, watch)
    recent = Recent(reactor.seconds, machine.wall_us)
    books = _books(config, machine, watch, state, recent)
    if tokens is not None:
        machine.on_hangup(partial(tokens.reread, books.events))
    peered = None if config.peers is None else _peered(config, config.peers, machine, state, certificates)
    local = peered.local if peered is not None else _alone(config, machine, state)
    directory: Directory = local if peered is None else peered.directory
    started = machine.uptime()
    rounds = None if config.probing is None else _rounds(config.probing, machine, local, watch)

    def describe() -> dict[str, Any]:
        uptime = int(machine.uptime() - started)
        known = {"name": "rqdisco", "version": __version__, "uptime": uptime, "ids": local.size}
        return known if config.unused_days is None else {**known, "unused_days": config.unused_days}

    health = Health(lambda: state.journal.refused, None if peered is None else peered.report)
    show_peers = None if peered is None else peered.report.as_object
    overview = Overview(describe, lambda: _nodes(state.store), health, recent, show_peers)
    deadlines = Deadlines(reactor, ANSWER_SECONDS)
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
    )
    opening.public(doors, books, is_guarded=config.is_open or access is not None)
    opening.operator(doors)
    opening.metrics()
    if config.dns is not None:
        # All names are looked through now, and not while somebody waits.
        state.store.spellings  # noqa: B018
        opening.names(config.dns, directory, rounds)

    watch.keep(_sweep(config, machine, state, local, peered, books.events))

    def say_status() -> None:
        ends = {where: end.isoformat() for where, end in certificates.expiries()}
        _log.info("status", refused=state.journal.refused, certificates=ends or None, **describe())

    machine.on_hangup(say_status)
    if peered is not None and config.peers is not None:
        opening.peers(config.peers, peered)
        peered.peers.standing.on_fenced = partial(_tell_fenced, books.events)
    folder = _folder(config, machine, state)
    _show(watch, books, state, folder, opening.sites, peered)
    overview.show_disk(state.journal, folder)
    watch.show(sources.certificates(lambda: {where: end.timestamp() for where, end in certificates.expiries()}))
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
    state: _State,
    folder: Folder,
    sites: Mapping[str, BoundedSite],
    peered: Peered | None,
) -> None:
    """Have all parts on the page of metrics."""

    def is_orphaned(home: str) -> bool:
        return home != state.home and (peered is None or peered.report.is_orphaned(home))

    watch.count_all(state.store, is_orphaned)
    watch.show(sources.requests(watch.requests, books.refusals))
    watch.show(sources.connections(sites))
    watch.show(sources.names(watch.dns))
    watch.show(sources.disk(state.journal, watch.syncs))
    watch.show(sources.snapshots(folder))
    if peered is not None:
        watch.show(sources.peers(peered.report.seen))


def _books(config: Config, machine: Machine, watch: Watch, state: _State, recent: Recent) -> Books:
    """What the doors write down, and where it goes."""
    if config.audit is None:
        return Books(Events(log_event, watch.outcomes, recent))
    audit = AuditLog(
        machine.reactor,
        AuditFile(config.audit),
        _thread(machine.reactor, "audit", state.finish),
        machine.wall_us,
        {"version": __version__, "incarnation": state.home},
    )
    watch.keep(audit)
    machine.on_hangup(audit.reopen)
    watch.show(sources.audit(audit))
    return Books(Events(log_event, watch.outcomes, recent, audit), RequestIDs(machine.random))


def _thread(reactor: Any, name: str, finish: list[Callable[[], None]]) -> Callable[[Callable[[], Any]], Deferred[Any]]:
    """What runs blocking calls in a thread of their own, one after the other, until `finish`."""
    pool = ThreadPool(1, 1, name)
    reactor.callWhenRunning(pool.start)
    finish.append(pool.stop)
    return lambda call: deferToThreadPool(reactor, pool, call)


def _end(finish: Sequence[Callable[[], None]]) -> None:
    for each in finish:
        each()


def _tell_fenced(events: Events, why: str) -> None:
    # Whoever found it out has logged it.
    events.tell(Event(kind="fence", outcome="fenced", why=why, logged=False))


def _open(config: Config, machine: Machine, watch: Watch) -> _State:
    reactor = machine.reactor
    home, found = open_state(Disk(), config.data_dir, machine.random)
    boot = found.boot_number(machine.boot_id)
    store = Store(found.records, found.last_version)
    fs = TimedDisk(reactor.seconds, watch.syncs)
    reserve = Reserve(fs, config.data_dir, config.disk_reserve, reactor.seconds)
    segments = SegmentWriter(fs, config.data_dir, found.position, boot, machine.boot_id, reserve)
    finish: list[Callable[[], None]] = []
    journal = Journal(
        store,
        segments,
        _thread(reactor, "journal", finish),
        lambda call: reactor.callLater(0, call),
        machine.fail,
    )
    return _State(home, found, store, journal, lambda: Moment(boot, int(machine.uptime() * 1000)), finish)


def _folder(config: Config, machine: Machine, state: _State) -> Folder:
    return Folder(
        machine.reactor,
        state.journal,
        lambda through: run_fold(machine.reactor, config.data_dir, through),
        config.snapshot_every,
        changed=state.found.changed,
    )


def _alone(config: Config, machine: Machine, state: _State) -> LocalDirectory:
    """The directory of a daemon without peers. Raises PeersMissing."""
    others = [member.name for member in known_members(state.found.notes.items(), state.home)]
    if others:
        raise PeersMissing(
            f"{config.data_dir}: is one of several peers ({', '.join(others)}), and may not decide without them: say"
            " --peer and what belongs to it"
        )
    return LocalDirectory(
        state.store,
        state.journal,
        state.home,
        now=state.now,
        wall_us=machine.wall_us,
        random=machine.random,
        limits=config.limits,
    )


def _peered(config: Config, said: PeerConfig, machine: Machine, state: _State, certificates: Certificates) -> Peered:
    """All of a daemon that has peers. Raises KeysUnusable, TLSUnusable."""
    keys = Keys(read_keys(said.keys))
    return Peered(
        Peering(name=said.name, url=said.advertise, seeds=said.seeds, ack_required=said.ack_required),
        state.home,
        state.store,
        state.journal,
        state.found.notes.items(),
        machine.reactor,
        links(machine.reactor, keys, machine.random, Policy(certificates.for_clients("peers", said.tls))),
        keys,
        now=state.now,
        wall_us=machine.wall_us,
        random=machine.random,
        jitter=machine.jitter,
        limits=config.limits,
    )


def _sweep(
    config: Config,
    machine: Machine,
    state: _State,
    local: LocalDirectory,
    peered: Peered | None,
    events: Events,
) -> Sweep:
    """What forgets IDs that never had a node: this daemon's own if it is to, and its peers' if they say so."""
    notes = kept_notes(state.found.notes.items())
    days = config.unused_days
    return Sweep(
        machine.reactor,
        state.store,
        state.journal,
        Marks(notes) if peered is None else peered.marks,
        state.home,
        events,
        state.now,
        calendar=None if days is None else Calendar(state.home, int(days * _DAY_MS), notes),
        may_expire=(lambda: True) if peered is None else peered.may_expire,
        is_deciding=local.is_deciding_of,
    )


def _rounds(config: ProbeConfig, machine: Machine, directory: Directory, watch: Watch) -> Rounds:
    """What probes the nodes of all IDs that this daemon holds, as long as that runs."""
    reactor = machine.reactor
    rounds = Rounds(
        directory,
        Knocker(tcp_endpoints(reactor), reactor),
        HostNames(reactor, SystemResolver(reactor, AT_ONCE), "a registered host name does not resolve"),
        Allowed(config.allowed),
        reactor,
        machine.jitter,
        interval=config.interval,
        rate=config.rate,
    )
    watch.keep(rounds)
    watch.show(sources.probes(rounds))
    return rounds
