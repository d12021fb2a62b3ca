"""Build the backend of a daemon with peers: all parts of `backends.gossip`, and how they connect.

`service.wiring.backend` makes one `GossipBackend` per daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rqdisco.backends.gossip.directory import GossipDirectory
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import HintMerger, HintStore
from rqdisco.backends.gossip.replication.own_recovery import OwnRecovery
from rqdisco.backends.gossip.replication.replica_parts import ReplicaParts
from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.request_handler import PeerRequestHandler
from rqdisco.backends.gossip.succession import OwnerSuccession
from rqdisco.backends.gossip.transport.messages import FEATURES, Member
from rqdisco.backends.limits import Limits
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.host_binding import LOCALHOST
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.writer import Journal


class GossipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's settings for peers: this daemon's name and URL, the URLs to find others at,
    and whether a bootstrap grant requires an acknowledgement.
    """

    name: str
    url: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False


class GossipContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts and settings that a gossip backend is built from.

    `metadata` is stored beside the records. `on_fenced` is called with the reason when this
    daemon is fenced.
    """

    config: GossipConfig
    limits: Limits
    incarnation: str
    store: Store
    journal: Journal
    metadata: Sequence[Metadata]
    environment: GossipEnvironment
    on_fenced: Callable[[str], None] = lambda _: None


def known_members(metadata: Sequence[Metadata], own: str) -> Sequence[Member]:
    """Return the other daemons that are still members according to the metadata."""
    return Members(Member(incarnation=own, name="", url=""), metadata).others


class GossipBackend:
    """The directory of a daemon with peers, its replication, and the handler of peer requests.

    `directory` answers the APIs, `local` decides about the IDs this daemon owns, `peers` is the
    service to start, `request_handler` handles the requests of peers. `may_expire` reports whether
    this daemon may expire its own unused IDs.
    """

    def __init__(self, context: GossipContext) -> None:
        config, store, journal, incarnation = context.config, context.store, context.journal, context.incarnation
        metadata, environment = context.metadata, context.environment
        own = Member(incarnation=incarnation, name=config.name, url=config.url, features=FEATURES)
        members = Members(own, metadata)
        run_id = environment.random_name()
        self.watermarks = ExpiryWatermarks(metadata)
        replication = Replication(incarnation, store, metadata, watermarks=self.watermarks, era=int(run_id[:7], 16) + 1)
        guard = DecisionGuard(
            lambda: members.own, lambda: members.others, lambda: self.peers.lacks_members, context.on_fenced
        )
        self.peers = PeerSet(
            environment,
            run_id,
            members,
            replication,
            guard,
            config.seeds,
            ack_required=config.ack_required,
        )
        self.local = SingleDirectory(
            store,
            journal,
            incarnation,
            environment,
            context.limits,
            coordinator=self.peers,
            # A client that reaches this daemon by loopback runs on the same host.
            machine=LOCALHOST if is_local(config.url) else None,
            metadata=metadata,
        )
        self.hint_store = HintStore(journal, environment.wall_ms, members.current_owner, metadata)
        hint_merger = HintMerger(self.local, journal, lambda: guard.is_ready, metadata)
        parts = ReplicaParts(
            members=members,
            replication=replication,
            guard=guard,
            journal=journal,
            local=self.local,
            watermarks=self.watermarks,
        )
        own_recovery = OwnRecovery(environment.clock, parts, metadata)
        exchange = Exchange(parts, self.hint_store, own_recovery, environment.wall_ms, self.peers.convergence.update)
        self.may_expire = lambda: guard.objection is None and own_recovery.is_complete and self.local.frozen is None
        self.store = store
        self.directory = GossipDirectory(
            self.local,
            store,
            self.peers,
            self.hint_store,
            environment.clock,
            environment.random_name,
            retry_window_ms=context.limits.retry_window_ms,
        )
        self.succession = OwnerSuccession(
            environment.clock, self.peers, exchange, self.local, store, journal, lambda: bool(self.local.grants.pending)
        )
        self.request_handler = PeerRequestHandler(
            environment, self.peers, self.local, journal, self.hint_store, hint_merger, self.succession
        )
        self.report = PeerReport(self.peers, self.hint_store, lambda: self.local.frozen)

        def changes_to_add(changes: Sequence[Change], may_send: bool) -> Sequence[Change]:
            """Return changes that the journal writes together with `changes`."""
            extra = replication.before_write(changes, may_send=may_send, may_correct=guard.is_ready)
            return (*extra, *own_recovery.marker_before_write(changes))

        # These parts refer to each other, so they are connected once all exist.
        replication.on_foreign_grant.append(self.directory.on_replicated)
        journal.before_write.append(changes_to_add)
        self.peers.attach(exchange, self.hint_store, hint_merger, self.succession.resume)
        if members.own.state != "member":
            guard.successor = members.current_owner(incarnation)
