"""Build the parts of a daemon that has peers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.keyring import KeyRing
from rqdisco.backends.gossip.transport.messages import FEATURES, Member
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.limits import Limits
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Metadata, decode_metadata_line, join_record
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


def decode_metadata(notes: Iterable[tuple[bytes, bytes]]) -> Sequence[Metadata]:
    """Decode the metadata found on disk."""
    return [decode_metadata_line(join_record(key, rest)) for key, rest in notes]


def known_members(notes: Iterable[tuple[bytes, bytes]], own: str) -> Sequence[Member]:
    """Return the other active members found on disk."""
    return Members(Member(incarnation=own, name="", url=""), decode_metadata(notes)).others


class GossipBackend:
    """A daemon's directory, its replication to peers, and the handler of their requests.

    `notes` is the metadata found on disk.
    """

    def __init__(
        self,
        config: GossipConfig,
        incarnation: str,
        store: Store,
        journal: Journal,
        notes: Iterable[tuple[bytes, bytes]],
        environment: Environment,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys or Keys(KeyRing(()))
        metadata = decode_metadata(notes)
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
        replication.on_foreign_grant = self.directory.on_replicated

        def writing(changes: Sequence[Change], may_send: bool) -> Sequence[Change]:
            may_correct = guard.is_ready
            extra = replication.before_write(changes, may_send=may_send, may_correct=may_correct)
            return (*extra, *own_recovery.before_write(changes))

        journal.on_writing = writing
        self.successions = Successions(
            environment.clock, self.peers, exchange, self.local, store, journal, lambda: self.local.is_deciding
        )
        self.peers.attach(exchange, self.hint_store, hint_merger, self.successions.resume)
        self.request_handler = PeerRequestHandler(
            environment, self.peers, self.local, journal, self.hint_store, hint_merger, self.successions
        )
        self.report = PeerReport(self.peers, self.hint_store)
        if members.own.state != "member":
            guard.successor = members.current_owner(incarnation)

    _peer_set = PeerSet
