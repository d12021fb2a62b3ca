"""Builds the backend of a daemon that stores its records itself, with or without peers; `gossip`
builds what peers add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.claim_monitor import ClaimMonitor
from rqdisco.backends.environment import Environment
from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.metrics import freeze_metrics
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.expiry_sweep import ExpirySweeper, OwnIDs
from rqdisco.backends.single.service import StoredBackendService
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Record
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import Config, PeerConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.backend import Backend, OpenedBackend
from rqdisco.service.wiring.storage import Storage, StoredDirectory, build_backups, build_compactor, open_storage
from rqdisco.service.worker_threads import RunInThread, WorkerThreads
from rqdisco.storage.initial_count import InitialCount
from rqdisco.storage.memory import Store
from rqdisco.storage.metrics import record_metrics, snapshot_metrics, wal_metrics
from rqdisco.storage.node_counter import NodeCounter, is_claimed
from rqdisco.storage.timed_disk import TimedDisk
from rqdisco.telemetry.counters import Histogram
from rqdisco.telemetry.events import Events
from rqdisco.telemetry.health import DaemonHealth

if TYPE_CHECKING:
    from rqdisco.service.wiring.gossip import PeerAccess

_DAY_MS = 24 * 60 * 60 * 1000


def open_stored_backend(
    config: Config, system: System, threads: WorkerThreads, certificates: Certificates, syncs: Histogram
) -> OpenedBackend:
    """Open the state directory. Raises a subclass of CannotStart, also when the backend is built.

    `syncs` receives the durations of the write-ahead log's syncs.
    """
    access = None if config.peers is None else _read_peer_access(config.peers, certificates)
    storage = open_storage(config, system, TimedDisk(system.reactor.seconds, syncs), threads.add("journal"))

    def build(events: Events) -> Backend:
        stored = _build_directory(config, system, storage, access, events)
        return build_stored_backend(config, system, storage, stored, events, syncs, threads.add("backup"))

    return OpenedBackend(incarnation=storage.incarnation, build=build)


def build_stored_backend(
    config: Config,
    system: System,
    storage: Storage,
    stored: StoredDirectory,
    events: Events,
    syncs: Histogram,
    run_in_thread: RunInThread,
) -> Backend:
    """Build the backend around a directory over the storage. Call it before any record changes.

    `run_in_thread` runs what reads the disk for backups.
    """
    store, journal, peers = storage.store, storage.journal, stored.peers
    compactor = build_compactor(config, system, storage)
    claims = build_claim_monitor(system.reactor, store)
    leaders = build_leader_monitor(system, storage, events)
    initial_count = count_records(system.reactor, store, claims)
    if config.dns is not None:
        store.build_name_index()
    return Backend(
        directory=stored.directory,
        names=stored.directory,
        health=DaemonHealth(
            lambda: journal.refused,
            None if peers is None else peers.report,
            claims.notes,
            lambda: stored.directory.frozen,
        ),
        leaders=leaders,
        count_ids=lambda: len(store),
        count_nodes=lambda: _count_nodes(store),
        metrics=[
            record_metrics(store, count_in(store), stored.is_ownerless),
            freeze_metrics(stored.directory),
            wal_metrics(journal, syncs),
            snapshot_metrics(compactor),
            *([] if peers is None else [peers.metrics]),
        ],
        service=StoredBackendService(stored.revoke_stuck, journal, compactor, None if peers is None else peers.service),
        background=[
            leaders,
            initial_count,
            claims,
            build_expiry_sweeper(config.unused_days, system, storage, stored, events),
        ],
        disk=(journal, compactor),
        backups=build_backups(config, system, storage, compactor, run_in_thread),
        peers=peers,
    )


def _read_peer_access(peers: PeerConfig, certificates: Certificates) -> PeerAccess:
    from rqdisco.service.wiring.gossip import read_peer_access

    return read_peer_access(peers, certificates)


def _build_directory(
    config: Config, system: System, storage: Storage, access: PeerAccess | None, events: Events
) -> StoredDirectory:
    """Build the directory that the options ask for: gossip if there are peers, else the single one.

    Raises PeersMissing.
    """
    if access is None and not storage.metadata:
        return build_single_directory(config, system, storage)
    from rqdisco.service.wiring.gossip import build_gossip_directory, check_without_peers

    if access is not None:
        return build_gossip_directory(config, access, system, storage, events)
    check_without_peers(config, storage)
    return build_single_directory(config, system, storage)


def build_single_directory(config: Config, system: System, storage: Storage) -> StoredDirectory:
    """Build the directory of a daemon without peers."""
    local = SingleDirectory(
        storage.store,
        storage.journal,
        storage.incarnation,
        Environment(now=storage.now, wall_us=system.wall_us, random=system.random),
        config.limits,
        metadata=storage.metadata,
    )
    return StoredDirectory(
        directory=local,
        has_pending_grant=local.has_pending_grant,
        revoke_stuck=local.grants.revoke_stuck,
        watermarks=ExpiryWatermarks(storage.metadata),
        may_expire=lambda: local.frozen is None,
        is_ownerless=lambda owner: owner != storage.incarnation,
    )


def build_leader_monitor(system: System, storage: Storage, events: Events) -> LeaderMonitor:
    """Build the service that detects two clusters under one ID."""
    leaders = LeaderMonitor(system.reactor, events)
    storage.store.on_settled.append(leaders.settled)
    return leaders


def build_claim_monitor(clock: IReactorTime, store: Store) -> ClaimMonitor:
    """Build the service that reports claims which wait for long."""

    async def find(discovery_id: str) -> Record | None:
        return store.settled(discovery_id)

    claims = ClaimMonitor(clock, find)
    store.on_settled.append(claims.settled)
    store.on_dropped.append(claims.dropped)
    return claims


def count_records(clock: IReactorTime, store: Store, claims: ClaimMonitor) -> InitialCount:
    """Count the records of the store from now on, and claims in it that wait for a report; return
    the service that counts those already there. Call it before any record changes.
    """

    def found(discovery_id: str) -> None:
        # The claim may have ended since.
        rest = store.rest(discovery_id.encode())
        if rest is not None and is_claimed(rest):
            claims.claimed(discovery_id.encode())

    store.node_counter = NodeCounter(list(store.values()), store.ids, found)
    return InitialCount(clock, store.node_counter)


def count_in(store: Store) -> NodeCounter:
    """Return the counter that `count_records` has given a store."""
    assert store.node_counter is not None
    return store.node_counter


def _count_nodes(store: Store) -> int | None:
    """Return the number of registered nodes; None until all records are counted."""
    counter = count_in(store)
    return counter.nodes if counter.is_complete else None


def build_expiry_sweeper(
    unused_days: float | None, system: System, storage: Storage, stored: StoredDirectory, events: Events
) -> ExpirySweeper:
    """Build the service that deletes expired IDs. It expires IDs of this daemon only if
    `unused_days` is set.
    """
    ages = None
    if unused_days is not None:
        ages = VersionAges(storage.incarnation, int(unused_days * _DAY_MS), storage.metadata)
    return ExpirySweeper(
        system.reactor,
        storage.store,
        storage.journal,
        stored.watermarks,
        events,
        OwnIDs(
            owner=storage.incarnation,
            now=storage.now,
            version_ages=ages,
            may_expire=stored.may_expire,
            has_pending_grant=stored.has_pending_grant,
        ),
    )
