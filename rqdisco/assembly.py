"""The one place where the parts of a daemon are joined."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rqdisco import __version__, options
from rqdisco.access import Access
from rqdisco.audit import AuditLog
from rqdisco.audit_file import AuditFile
from rqdisco.crowd import Crowd
from rqdisco.daemon import Daemon
from rqdisco.directory import Directory
from rqdisco.dns.answers import NameServer
from rqdisco.dns.door import DNSDoor
from rqdisco.dns.hosts import AT_ONCE, HostNames
from rqdisco.dns.limits import SourceLimit
from rqdisco.dns.system import SystemResolver
from rqdisco.errors import CannotListen, PeersMissing, TokensUnusable
from rqdisco.events import Event, Events, log_event
from rqdisco.health import Health
from rqdisco.ids import RandomBytes
from rqdisco.journal.child import run_fold
from rqdisco.journal.files import Disk
from rqdisco.journal.folder import Folder
from rqdisco.journal.recovery import Recovered
from rqdisco.journal.reserve import Reserve
from rqdisco.journal.segments import SegmentWriter
from rqdisco.journal.timed import TimedDisk
from rqdisco.journal.writer import Journal
from rqdisco.listening import Door, HTTPDoor, NameDoor, endpoint, owners_socket
from rqdisco.local import LocalDirectory
from rqdisco.metrics import sources
from rqdisco.metrics.watch import Watch
from rqdisco.peers.assembly import Peered, Peering, known_members
from rqdisco.peers.http_link import Keys
from rqdisco.peers.office import Office
from rqdisco.peers.process import links, read_keys, rereading
from rqdisco.peers.resource import MOST_BYTES as PEER_BYTES
from rqdisco.peers.resource import STRANGERS_BYTES, PeerResource
from rqdisco.probing.knock import Knocker, tcp_endpoints
from rqdisco.probing.rounds import Rounds
from rqdisco.probing.targets import Allowed
from rqdisco.records import Moment
from rqdisco.state import open_state
from rqdisco.store import Store
from rqdisco.systemd import Notifier
from rqdisco.tls import Certificates, Policy
from rqdisco.token_file import read_tokens
from rqdisco.web.deadlines import Deadlines
from rqdisco.web.handling import ANSWER_SECONDS, Books
from rqdisco.web.pacing import paced
from rqdisco.web.request_ids import RequestIDs
from rqdisco.web.root import IMPORT_BYTES, Doors
from rqdisco.web.site import BoundedSite

# Unless the operator says otherwise: at some 10 KiB each that is 100 MiB.
MOST_CONNECTIONS = 10_000
# Every peer needs a few of them.
PEER_CONNECTIONS = 128
PEER_CONNECTIONS_EACH = 32
METRICS_CONNECTIONS = 32

_log = Logger()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has of its system.

    `uptime` gives the seconds since the boot that `boot_id` names, `wall_us` the wall clock in microseconds, `jitter`
    numbers around 1; `descriptors` has the system allow so many connections, and says how many it does;
    `on_hangup` adds what is done at SIGHUP; `refuse` ends the process where it cannot listen, `fail`
    where it can acknowledge nothing any more.
    """

    reactor: Any
    environment: Mapping[str, str]
    pid: int
    boot_id: str
    wall_us: Callable[[], int]
    uptime: Callable[[], float]
    random: RandomBytes
    jitter: Callable[[], float]
    descriptors: Callable[[int], int]
    on_hangup: Callable[[Callable[[], None]], None]
    refuse: Callable[[CannotListen], None]
    fail: Callable[[str], None]

    def wall(self) -> float:
        """The wall clock in seconds."""
        return self.wall_us() / 1_000_000


class _State(msgspec.Struct, frozen=True):
    """What was found in the state directory, and what it is kept up with."""

    home: str
    found: Recovered
    store: Store
    journal: Journal
    now: Callable[[], Moment]
    finish: list[Callable[[], None]]


def assemble(config: options.Config, machine: Machine) -> Daemon:
    """The daemon as the options want it. Raises CannotStart's kinds."""
    reactor = machine.reactor
    access = None if config.tokens is None else _access(config.tokens, machine)
    certificates = Certificates(reactor.seconds)
    machine.on_hangup(certificates.reread)
    endpoints = [endpoint(reactor, "listen", description, certificates) for description in config.listen]
    watch = Watch(reactor)
    state = _open(config, machine, watch)
    books = _books(config, machine, watch, state)
    peered = None if config.peers is None else _peered(config, config.peers, machine, state, certificates)
    local = peered.local if peered is not None else _alone(config, machine, state)
    directory: Directory = local if peered is None else peered.directory
    started = machine.uptime()
    rounds = None if config.probing is None else _rounds(config.probing, machine, local, watch)

    def describe() -> dict[str, Any]:
        uptime = int(machine.uptime() - started)
        return {"name": "rqdisco", "version": __version__, "uptime": uptime, "ids": local.size}

    health = Health(lambda: state.journal.refused, None if peered is None else peered.report)
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
        mint_rate=config.bounds.mint_rate,
    )
    site = partial(BoundedSite, reactor=reactor, wall=machine.wall, counts=watch.requests)
    sites = {
        "endpoints": site(
            paced(doors.public(), reactor, config.bounds.client_rate, books.held_too_long),
            max_body=config.max_body,
            most_body=IMPORT_BYTES,
            may_send_more=doors.may_send_more,
            crowd=_crowd(config.bounds, machine),
        )
    }
    is_guarded = config.is_open or access is not None
    opened: list[Door] = [HTTPDoor("endpoints", reactor, endpoints, sites["endpoints"], is_guarded=is_guarded)]
    if config.operator_socket is not None:
        sites["operator"] = site(doors.operators(), max_body=IMPORT_BYTES)
        at = owners_socket(reactor, config.operator_socket)
        opened.append(HTTPDoor("operator", reactor, [at], sites["operator"]))
    if config.metrics_listen:
        crowd = Crowd(METRICS_CONNECTIONS, METRICS_CONNECTIONS, reactor.seconds)
        sites["metrics"] = site(watch.page, max_body=0, crowd=crowd)
        where = [
            endpoint(reactor, "metrics-listen", description, certificates) for description in config.metrics_listen
        ]
        opened.append(HTTPDoor("metrics", reactor, where, sites["metrics"]))
    if config.dns is not None:
        # All names are looked through now, and not while somebody waits.
        state.store.spellings  # noqa: B018
        opened.append(_name_door(reactor, config.dns, directory, watch, rounds))

    def say_status() -> None:
        ends = {where: end.isoformat() for where, end in certificates.expiries()}
        _log.info("status", refused=state.journal.refused, certificates=ends or None, **describe())

    machine.on_hangup(say_status)
    if peered is not None and config.peers is not None:
        resource = PeerResource(peered.answers, peered.keys, reactor, machine.random)
        crowd = Crowd(PEER_CONNECTIONS, PEER_CONNECTIONS_EACH, reactor.seconds)
        sites["peers"] = site(
            resource,
            max_body=STRANGERS_BYTES,
            most_body=PEER_BYTES,
            may_send_more=resource.may_send_more,
            route=("peers", "any"),
            trusting=True,
            crowd=crowd,
        )
        opened.append(_peer_door(config.peers, machine, peered, resource, sites["peers"], certificates))
        peered.peers.standing.on_fenced = partial(_tell_fenced, books.events)
    folder = _folder(config, machine, state)
    _show(watch, books, state, folder, sites, peered)
    watch.show(sources.certificates(lambda: {where: end.timestamp() for where, end in certificates.expiries()}))
    return Daemon(
        reactor,
        opened,
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


def _access(path: Path, machine: Machine) -> Access:
    """Who is in the file of tokens, now and after each SIGHUP. Raises TokensUnusable."""
    access = Access(read_tokens(path))

    def reread() -> None:
        try:
            access.ring = read_tokens(path)
        except TokensUnusable as error:
            _log.error("tokens not read again, the old ones stay: {why}", why=str(error))
            return
        _log.info("tokens read again", count=len(access.ring.tokens))
        _warn_of_none(path, access)

    _warn_of_none(path, access)
    machine.on_hangup(reread)
    return access


def _warn_of_none(path: Path, access: Access) -> None:
    if not access.ring.tokens:
        _log.warn("there are no tokens, so nobody is served: `rqdisco token new` makes one", file=str(path))


def _crowd(bounds: options.Bounds, machine: Machine) -> Crowd:
    """As many connections as the operator allows, and there are descriptors for."""
    wanted = MOST_CONNECTIONS if bounds.connections is None else bounds.connections
    most = machine.descriptors(wanted)
    if most < wanted and bounds.connections is not None:
        _log.warn("fewer connections than asked for: there are too few descriptors (ulimit -n)", connections=most)
    return Crowd(most, bounds.client_connections, machine.reactor.seconds)


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


def _books(config: options.Config, machine: Machine, watch: Watch, state: _State) -> Books:
    """What the doors write down, and where it goes."""
    if config.audit is None:
        return Books(Events(log_event, watch.outcomes))
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
    return Books(Events(log_event, watch.outcomes, audit), RequestIDs(machine.random))


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


def _open(config: options.Config, machine: Machine, watch: Watch) -> _State:
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


def _folder(config: options.Config, machine: Machine, state: _State) -> Folder:
    return Folder(
        machine.reactor,
        state.journal,
        lambda through: run_fold(machine.reactor, config.data_dir, through),
        config.snapshot_every,
        changed=state.found.changed,
    )


def _alone(config: options.Config, machine: Machine, state: _State) -> LocalDirectory:
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


def _peered(
    config: options.Config, said: options.PeerConfig, machine: Machine, state: _State, certificates: Certificates
) -> Peered:
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


def _peer_door(
    said: options.PeerConfig,
    machine: Machine,
    peered: Peered,
    resource: PeerResource,
    site: BoundedSite,
    certificates: Certificates,
) -> Door:
    at = [endpoint(machine.reactor, "peer-listen", description, certificates) for description in said.listen]
    machine.on_hangup(rereading(said.keys, peered.keys, resource))
    return HTTPDoor("peers", machine.reactor, at, site)


def _rounds(config: options.ProbeConfig, machine: Machine, directory: Directory, watch: Watch) -> Rounds:
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


def _name_door(
    reactor: Any, config: options.DNSConfig, directory: Directory, watch: Watch, rounds: Rounds | None
) -> NameDoor:
    host_names = HostNames(reactor, SystemResolver(reactor, AT_ONCE))
    ips = [host for host, _ in config.addresses if not ipaddress.ip_address(host).is_unspecified]
    server = NameServer(directory, config.zone, host_names, reactor, config.nameserver, ips, rounds)
    limit = SourceLimit(config.rate, reactor.seconds)
    return NameDoor(DNSDoor(reactor, server, limit, config.addresses, watch.dns))
