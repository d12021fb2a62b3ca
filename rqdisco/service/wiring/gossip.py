"""Builds the directory of a daemon with peers. Not loaded without peers."""

from __future__ import annotations

from functools import partial

import msgspec

from rqdisco.backends.gossip.assembly import GossipBackend, GossipConfig, GossipContext, known_members
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.metrics import peer_metrics
from rqdisco.backends.gossip.transport.connections import link_factory, read_keys, reload_keys
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.core.errors import PeersMissing
from rqdisco.security.certificates import Certificates
from rqdisco.security.tls import ClientPolicy
from rqdisco.service.config import Config, PeerConfig
from rqdisco.service.system import System
from rqdisco.service.wiring.backend import PeerParts
from rqdisco.service.wiring.storage import Storage, StoredDirectory
from rqdisco.telemetry.events import Event, Events


class PeerAccess(msgspec.Struct, frozen=True):
    """A daemon's options among its peers, and the content of the files that they name."""

    config: PeerConfig
    keys: Keys
    policy: ClientPolicy


def read_peer_access(peers: PeerConfig, certificates: Certificates) -> PeerAccess:
    """Read the keys and certificates of a daemon with peers. Raises KeysUnusable, TLSUnusable."""
    return PeerAccess(peers, Keys(read_keys(peers.keys)), ClientPolicy(certificates.for_clients("peers", peers.tls)))


def build_gossip_directory(
    config: Config, access: PeerAccess, system: System, storage: Storage, events: Events
) -> StoredDirectory:
    """Build the directory of a daemon with peers."""
    peers, keys, policy = access.config, access.keys, access.policy
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
            ),
            # The code that fences has logged the reason.
            on_fenced=lambda why: events.publish(Event(kind="fence", outcome="fenced", why=why, logged=False)),
        )
    )
    resource = PeerResource(gossip.driver, keys, system.reactor, system.random)
    return StoredDirectory(
        directory=gossip.directory,
        has_pending_grant=gossip.has_pending_grant,
        revoke_stuck=gossip.revoke_stuck,
        watermarks=gossip.watermarks,
        may_expire=gossip.may_expire,
        is_ownerless=lambda owner: owner != storage.incarnation and gossip.report.is_ownerless(owner),
        peers=PeerParts(
            service=gossip.driver,
            report=gossip.report,
            metrics=peer_metrics(gossip.report.status),
            admin=gossip.admin,
            resource=resource,
            reload_keys=partial(reload_keys, peers.keys, keys, resource),
        ),
    )


def check_without_peers(config: Config, storage: Storage) -> None:
    """Raise PeersMissing if the state directory belongs to a daemon with peers."""
    others = [member.name for member in known_members(storage.metadata, storage.incarnation)]
    if others:
        raise PeersMissing(
            f"{config.data_dir}: belongs to a daemon with peers ({', '.join(others)}) and may not decide without them;"
            " set --peer, --peer-listen, --advertise and --peer-keys"
        )
