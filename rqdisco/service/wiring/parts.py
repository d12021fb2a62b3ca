"""The parts of a daemon, each as the options want it; `assembly` joins them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from rqdisco import __version__
from rqdisco.backends.gossip.assembly import GossipBackend, GossipConfig, decode_metadata, known_members
from rqdisco.backends.gossip.environment import Environment
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.setup import link_factory, read_keys
from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.metrics import leader_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.expiry_sweep import ExpirySweeper
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.directory import Directory
from rqdisco.core.errors import PeersMissing
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Moment
from rqdisco.http.requests.request_ids import RequestIDs
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.probes.metrics import probe_metrics
from rqdisco.probes.prober import Prober, tcp_endpoints
from rqdisco.probes.resolution.host_names import AT_ONCE, HostNames
from rqdisco.probes.resolution.system_resolver import SystemResolver
from rqdisco.probes.scheduler import ProbeScheduler
from rqdisco.probes.targets import Allowed
from rqdisco.security.certificates import Certificates
from rqdisco.security.tls import Policy
from rqdisco.service.config import Config, PeerConfig, ProbeConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.registry import MetricsRegistry
from rqdisco.storage.compaction_process import run_compaction
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.disk_reserve import Reserve
from rqdisco.storage.files import Disk
from rqdisco.storage.memory import Store
from rqdisco.storage.state_directory import open_state
from rqdisco.storage.timed_disk import TimedDisk
from rqdisco.storage.wal.recovery import Recovered
from rqdisco.storage.wal.segments import SegmentWriter
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.audit import AuditLog
from rqdisco.telemetry.audit_file import AuditFile
from rqdisco.telemetry.events import Events, log_event
from rqdisco.telemetry.metrics import audit_metrics
from rqdisco.telemetry.recent import RecentActivity

_DAY_MS = 24 * 60 * 60 * 1000


class State(msgspec.Struct, frozen=True):
    """What was found in the state directory, and what it is kept up with."""

    owner: str
    found: Recovered
    store: Store
    journal: Journal
    now: Callable[[], Moment]
    finish: list[Callable[[], None]]


def telemetry_of(
    config: Config, machine: System, watch: MetricsRegistry, state: State, recent: RecentActivity
) -> RequestTelemetry:
    """What the doors write down, and where it goes."""
    if config.audit is None:
        return RequestTelemetry(Events(log_event, watch.outcomes, recent))
    audit = AuditLog(
        machine.reactor,
        AuditFile(config.audit),
        _thread(machine.reactor, "audit", state.finish),
        machine.wall_us,
        {"version": __version__, "incarnation": state.owner},
    )
    watch.keep(audit)
    machine.on_hangup(audit.reopen)
    watch.show(audit_metrics(audit))
    return RequestTelemetry(Events(log_event, watch.outcomes, recent, audit), RequestIDs(machine.random))


def opened(config: Config, machine: System, watch: MetricsRegistry) -> State:
    """The state directory, read and ready to be written. Raises CannotStart's kinds."""
    reactor = machine.reactor
    owner, found = open_state(Disk(), config.data_dir, machine.random)
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
    return State(owner, found, store, journal, lambda: Moment(boot, int(machine.uptime() * 1000)), finish)


def compactor_of(config: Config, machine: System, state: State) -> Compactor:
    """What makes snapshots, as often as it is to."""
    return Compactor(
        machine.reactor,
        state.journal,
        lambda through: run_compaction(machine.reactor, config.data_dir, through),
        config.snapshot_every,
        changed=state.found.changed,
    )


def single_directory(config: Config, machine: System, state: State) -> SingleDirectory:
    """The directory of a daemon without peers. Raises PeersMissing."""
    others = [member.name for member in known_members(state.found.metadata.items(), state.owner)]
    if others:
        raise PeersMissing(
            f"{config.data_dir}: is one of several peers ({', '.join(others)}), and may not decide without them: say"
            " --peer and what belongs to it"
        )
    return SingleDirectory(
        state.store,
        state.journal,
        state.owner,
        now=state.now,
        wall_us=machine.wall_us,
        random=machine.random,
        limits=config.limits,
    )


def gossip_backend(
    config: Config, said: PeerConfig, machine: System, state: State, certificates: Certificates
) -> GossipBackend:
    """All of a daemon that has peers. Raises KeysUnusable, TLSUnusable."""
    keys = Keys(read_keys(said.keys))
    return GossipBackend(
        GossipConfig(
            name=said.name, url=said.advertise, seeds=said.seeds, ack_required=said.ack_required, limits=config.limits
        ),
        state.owner,
        state.store,
        state.journal,
        state.found.metadata.items(),
        Environment(
            clock=machine.reactor,
            link=link_factory(
                machine.reactor, keys, machine.random, Policy(certificates.for_clients("peers", said.tls))
            ),
            now=state.now,
            wall_us=machine.wall_us,
            random=machine.random,
            jitter=machine.jitter,
        ),
        keys,
    )


def sweep_of(
    config: Config,
    machine: System,
    state: State,
    local: SingleDirectory,
    backend: GossipBackend | None,
    events: Events,
) -> ExpirySweeper:
    """What forgets IDs that never had a node: this daemon's own if it is to, and its peers' if they
    say so.
    """
    notes = decode_metadata(state.found.metadata.items())
    days = config.unused_days
    return ExpirySweeper(
        machine.reactor,
        state.store,
        state.journal,
        ExpiryWatermarks(notes) if backend is None else backend.watermarks,
        state.owner,
        events,
        state.now,
        version_ages=None if days is None else VersionAges(state.owner, int(days * _DAY_MS), notes),
        may_expire=(lambda: True) if backend is None else backend.may_expire,
        is_deciding=local.is_deciding_of,
    )


def scheduler_of(config: ProbeConfig, machine: System, directory: Directory, watch: MetricsRegistry) -> ProbeScheduler:
    """What probes the nodes of all IDs that this daemon holds, as long as that runs."""
    reactor = machine.reactor
    resolver = SystemResolver(reactor, AT_ONCE)
    scheduler = ProbeScheduler(
        directory,
        Prober(tcp_endpoints(reactor), reactor),
        HostNames(reactor, resolver, "a registered host name does not resolve", watch.look_ups["probes"]),
        Allowed(config.allowed),
        reactor,
        machine.jitter,
        interval=config.interval,
        rate=config.rate,
    )
    watch.keep(scheduler)
    watch.show(probe_metrics(scheduler))
    return scheduler


def leaders_of(machine: System, state: State, events: Events, watch: MetricsRegistry) -> LeaderMonitor:
    """What notices two clusters under one ID."""
    leaders = LeaderMonitor(machine.reactor, events)
    state.store.on_settled.append(leaders.settled)
    watch.keep(leaders)
    watch.show(leader_metrics(leaders))
    return leaders


def _thread(reactor: Any, name: str, finish: list[Callable[[], None]]) -> Callable[[Callable[[], Any]], Deferred[Any]]:
    """What runs blocking calls in a thread of their own, one after the other, until `finish`."""
    pool = ThreadPool(1, 1, name)
    reactor.callWhenRunning(pool.start)
    finish.append(pool.stop)
    return lambda call: deferToThreadPool(reactor, pool, call)
