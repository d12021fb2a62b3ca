"""Builds the backend of a daemon: the single one, or gossip among peers.

The rest of the daemon sees a `Backend` either way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from twisted.application.service import Service

from rqdisco.backends.environment import Environment
from rqdisco.backends.gossip.assembly import GossipBackend, GossipConfig, GossipContext, known_members
from rqdisco.backends.gossip.cluster_admin import GossipAdmin
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.backends.gossip.transport.setup import link_factory, read_keys, reload_keys
from rqdisco.backends.leader_monitor import LeaderMonitor
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.expiry_sweep import ExpirySweeper, OwnIDs
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.directory import Directory
from rqdisco.core.errors import PeersMissing
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.http.api.admin import ClusterAdmin
from rqdisco.security.certificates import Certificates
from rqdisco.security.tls import ClientPolicy
from rqdisco.service.config import Config, PeerConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.storage import Storage
from rqdisco.telemetry.events import Event, Events

_DAY_MS = 24 * 60 * 60 * 1000


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend, as the rest of the daemon sees it.

    `directory` answers the APIs. `local` decides about the IDs this daemon owns. `watermarks` tell
    which IDs have expired; `may_expire` reports whether this daemon may expire IDs of its own now.
    `is_ownerless` reports whether the owner of an ID, given by its incarnation, is gone for good.
    `peers` is None for a single daemon.
    """

    directory: Directory
    local: SingleDirectory
    watermarks: ExpiryWatermarks
    may_expire: Callable[[], bool]
    is_ownerless: Callable[[str], bool]
    peers: PeerParts | None = None


class PeerParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that only a backend with peers has.

    `service` keeps in contact with peers. `report` describes them to health checks, the status
    page and `/metrics`. `admin` answers the operator API. `resource` answers peers. `reload_keys`
    reads the key file again.
    """

    service: Service
    report: PeerReport
    admin: ClusterAdmin
    resource: PeerResource
    reload_keys: Callable[[], None]


def build_backend(
    config: Config, system: System, storage: Storage, certificates: Certificates, events: Events
) -> Backend:
    """Build the backend that the options ask for: gossip if there are peers, else the single one.

    Raises PeersMissing, KeysUnusable, TLSUnusable.
    """
    if config.peers is None:
        _check_without_peers(config, storage)
        return build_single_backend(config, system, storage)
    return build_gossip_backend(config, config.peers, system, storage, certificates, events)


def build_single_backend(config: Config, system: System, storage: Storage) -> Backend:
    """Build the backend of a daemon without peers."""
    local = SingleDirectory(
        storage.store,
        storage.journal,
        storage.incarnation,
        Environment(now=storage.now, wall_us=system.wall_us, random=system.random),
        config.limits,
    )
    return Backend(
        directory=local,
        local=local,
        watermarks=ExpiryWatermarks(storage.metadata),
        may_expire=lambda: True,
        is_ownerless=lambda owner: owner != storage.incarnation,
    )


def build_gossip_backend(
    config: Config, peers: PeerConfig, system: System, storage: Storage, certificates: Certificates, events: Events
) -> Backend:
    """Build the backend of a daemon with peers. Raises KeysUnusable, TLSUnusable."""
    keys = Keys(read_keys(peers.keys))
    policy = ClientPolicy(certificates.for_clients("peers", peers.tls))
    gossip = GossipBackend(
        GossipContext(
            config=GossipConfig(
                name=peers.name, url=peers.advertise, seeds=peers.seeds, ack_required=peers.ack_required
            ),
            limits=config.limits,
            incarnation=storage.incarnation,
            store=storage.store,
            journal=storage.journal,
            metadata=storage.metadata,
            environment=GossipEnvironment(
                clock=system.reactor,
                link=link_factory(system.reactor, keys, system.random, policy),
                now=storage.now,
                wall_us=system.wall_us,
                random=system.random,
                jitter=system.jitter,
            ),
            # The code that fences has logged the reason.
            on_fenced=lambda why: events.publish(Event(kind="fence", outcome="fenced", why=why, logged=False)),
        )
    )
    resource = PeerResource(gossip.request_handler, keys, system.reactor, system.random)
    return Backend(
        directory=gossip.directory,
        local=gossip.local,
        watermarks=gossip.watermarks,
        may_expire=gossip.may_expire,
        is_ownerless=lambda owner: owner != storage.incarnation and gossip.report.is_ownerless(owner),
        peers=PeerParts(
            service=gossip.peers,
            report=gossip.report,
            admin=GossipAdmin(gossip.report, gossip.succession),
            resource=resource,
            reload_keys=partial(reload_keys, peers.keys, keys, resource),
        ),
    )


def _check_without_peers(config: Config, storage: Storage) -> None:
    """Raise PeersMissing if the state directory belongs to a daemon with peers."""
    others = [member.name for member in known_members(storage.metadata, storage.incarnation)]
    if others:
        raise PeersMissing(
            f"{config.data_dir}: belongs to a daemon with peers ({', '.join(others)}) and may not decide without them;"
            " set --peer, --peer-listen, --advertise and --peer-keys"
        )


def build_leader_monitor(system: System, storage: Storage, events: Events) -> LeaderMonitor:
    """Build the service that detects two clusters under one ID."""
    leaders = LeaderMonitor(system.reactor, events)
    storage.store.on_settled.append(leaders.settled)
    return leaders


def build_expiry_sweeper(
    unused_days: float | None, system: System, storage: Storage, backend: Backend, events: Events
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
        backend.watermarks,
        events,
        OwnIDs(
            owner=storage.incarnation,
            now=storage.now,
            version_ages=ages,
            may_expire=backend.may_expire,
            has_pending_grant=backend.local.has_pending_grant,
        ),
    )
