"""The gossip backend: builds and joins the parts of a daemon that has peers.

`rqdisco.service.wiring.backend` builds it; the connections among its own parts are made here only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rqdisco.backends.gossip.directory import GossipDirectory
from rqdisco.backends.gossip.environment import Environment
from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import HintMerger, HintStore
from rqdisco.backends.gossip.replication.own_recovery import OwnRecovery
from rqdisco.backends.gossip.replication.replica import Replica
from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.request_handler import PeerRequestHandler
from rqdisco.backends.gossip.succession import Successions
from rqdisco.backends.gossip.transport.messages import FEATURES, Member
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.limits import Limits
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Metadata
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.host_binding import LOCALHOST
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.writer import Journal


class GossipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's settings: this daemon's name and URL, seeds, whether grants need an
    acknowledgement, and limits.
    """

    name: str
    url: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False
    limits: Limits


def known_members(metadata: Sequence[Metadata], own: str) -> Sequence[Member]:
    """Return the other active members found on disk."""
    return Members(Member(incarnation=own, name="", url=""), metadata).others


class GossipBackend:
    """A daemon's directory, its replication to peers, and the handler of their requests.

    `metadata` is what was found on disk beside the records. `on_fenced` is called with the reason
    when this daemon is fenced.
    """

    def __init__(
        self,
        config: GossipConfig,
        incarnation: str,
        store: Store,
        journal: Journal,
        metadata: Sequence[Metadata],
        environment: Environment,
        on_fenced: Callable[[str], None] = lambda _: None,
    ) -> None:
        own = Member(incarnation=incarnation, name=config.name, url=config.url, features=FEATURES)
        members = Members(own, metadata)
        boot = environment.random_name()
        self.watermarks = ExpiryWatermarks(metadata)
        replication = Replication(incarnation, store, metadata, watermarks=self.watermarks, era=int(boot[:7], 16) + 1)
        guard = DecisionGuard(lambda: members.own, lambda: members.others, lambda: self.peers.lacks_members)
        self.peers = self._peer_set(
            environment,
            boot,
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
            now=environment.now,
            wall_us=environment.wall_us,
            random=environment.random,
            limits=config.limits,
            coordinator=self.peers,
            # A client that reaches this daemon by loopback runs on the same host.
            machine=LOCALHOST if is_local(config.url) else None,
        )
        self.hint_store = HintStore(journal, environment.wall_ms, members.current_owner, metadata)
        hint_merger = HintMerger(self.local, journal, lambda: guard.is_ready, metadata)
        replica = Replica(
            members=members,
            replication=replication,
            guard=guard,
            journal=journal,
            local=self.local,
            watermarks=self.watermarks,
        )
        own_recovery = OwnRecovery(environment.clock, replica, metadata)
        exchange = Exchange(replica, self.hint_store, own_recovery, environment.wall_ms)
        # Report whether this daemon may declare its own IDs expired.
        self.may_expire = lambda: guard.objection is None and own_recovery.is_complete
        self.store = store
        self.directory = GossipDirectory(
            self.local,
            store,
            self.peers,
            self.hint_store,
            environment.clock,
            environment.random_name,
            retry_window_ms=config.limits.retry_window_ms,
        )

        def changes_to_add(changes: Sequence[Change], may_send: bool) -> Sequence[Change]:
            """Return what the journal writes together with `changes`."""
            may_correct = guard.is_ready
            extra = replication.before_write(changes, may_send=may_send, may_correct=may_correct)
            return (*extra, *own_recovery.before_write(changes))

        self.successions = Successions(
            environment.clock, self.peers, exchange, self.local, store, journal, lambda: self.local.is_deciding
        )
        self.request_handler = PeerRequestHandler(
            environment, self.peers, self.local, journal, self.hint_store, hint_merger, self.successions
        )
        self.report = PeerReport(self.peers, self.hint_store)
        # These parts need each other, so they are joined once all exist.
        guard.on_fenced = on_fenced
        replication.on_foreign_grant = self.directory.on_replicated
        journal.on_writing = changes_to_add
        self.peers.attach(exchange, self.hint_store, hint_merger, self.successions.resume)
        if members.own.state != "member":
            guard.successor = members.current_owner(incarnation)

    # Tests replace it by the set of peers of an older version.
    _peer_set = PeerSet
