"""Joins the parts of a daemon that has peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.directory import GossipDirectory
from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import HintMerger, HintStore
from rqdisco.backends.gossip.replication.own_recovery import OwnRecovery
from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.request_handler import PeerRequestHandler
from rqdisco.backends.gossip.succession import Successions
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.keyring import KeyRing
from rqdisco.backends.gossip.transport.links import Link
from rqdisco.backends.gossip.transport.messages import FEATURES, Member
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.backends.single.limits import Limits
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Metadata, decode_metadata_line, join_record
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.host_binding import LOCALHOST
from rqdisco.core.ids import RandomBytes
from rqdisco.core.records import Moment
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.writer import Journal


class GossipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of peers: this daemon's name and URL, where to find others, what a
    grant needs.
    """

    name: str
    url: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False


def decode_metadata(notes: Iterable[tuple[bytes, bytes]]) -> Sequence[Metadata]:
    """The notes that were found on the disk."""
    return [decode_metadata_line(join_record(key, rest)) for key, rest in notes]


def known_members(notes: Iterable[tuple[bytes, bytes]], own: str) -> Sequence[Member]:
    """The other daemons that still take part, as far as was kept."""
    kept = decode_metadata(notes)
    return Members(Member(incarnation=own, name="", url=""), kept).others


class GossipBackend:
    """A daemon's directory, what keeps it in step with its peers, and what answers those.

    `notes` are what was kept about peers, `link` makes the way to a URL, `jitter` gives numbers
    around 1.
    """

    def __init__(
        self,
        peering: GossipConfig,
        incarnation: str,
        store: Store,
        journal: Journal,
        notes: Iterable[tuple[bytes, bytes]],
        clock: IReactorTime,
        link: Callable[[str], Link],
        keys: Keys | None = None,
        *,
        now: Callable[[], Moment],
        wall_us: Callable[[], int],
        random: RandomBytes,
        jitter: Callable[[], float],
        limits: Limits,
    ) -> None:
        self.keys = keys or Keys(KeyRing(()))
        kept = decode_metadata(notes)
        own = Member(incarnation=incarnation, name=peering.name, url=peering.url, features=FEATURES)
        members = Members(own, kept)
        boot = random(8).hex()
        self.watermarks = ExpiryWatermarks(kept)
        replication = Replication(incarnation, store, kept, watermarks=self.watermarks, era=int(boot[:7], 16) + 1)
        guard = DecisionGuard(lambda: members.own, lambda: members.others, lambda: self.peers.is_unmet)
        self.peers = self._peer_set(
            clock,
            members,
            replication,
            guard,
            link,
            peering.seeds,
            boot,
            jitter,
            lambda: wall_us() // 1000,
            ack_required=peering.ack_required,
        )
        self.local = SingleDirectory(
            store,
            journal,
            incarnation,
            now=now,
            wall_us=wall_us,
            random=random,
            limits=limits,
            coordinator=self.peers,
            # Who reaches it by a loopback address is on its machine.
            machine=LOCALHOST if is_local(peering.url) else None,
        )
        self.hint_store = HintStore(journal, lambda: wall_us() // 1000, members.current_owner, kept)
        taker = HintMerger(self.local, journal, lambda: guard.is_ready, kept)
        own_recovery = OwnRecovery(clock, replication, guard, journal, self.local, incarnation, self.watermarks, kept)
        exchange = Exchange(
            replication,
            members,
            guard,
            journal,
            self.local,
            self.hint_store,
            own_recovery,
            self.watermarks,
            lambda: wall_us() // 1000,
        )
        # Whether this daemon may say that IDs of its own are gone.
        self.may_expire = lambda: guard.objection is None and own_recovery.is_over
        self.store = store
        self.directory = GossipDirectory(
            self.local,
            store,
            self.peers,
            self.hint_store,
            clock,
            lambda: random(8).hex(),
            retry_window_ms=limits.retry_window_ms,
        )
        replication.on_foreign = self.directory.changed

        def writing(changes: Sequence[Change], may_send: bool) -> Sequence[Change]:
            may_correct = guard.is_ready
            besides = replication.writing(changes, may_send=may_send, may_correct=may_correct)
            return (*besides, *own_recovery.writing(changes))

        journal.on_writing = writing
        self.successions = Successions(
            clock, self.peers, exchange, self.local, store, journal, lambda: self.local.is_deciding
        )
        self.peers.use(exchange, self.hint_store, taker, self.successions.go_on)
        self.answers = PeerRequestHandler(
            clock,
            self.peers,
            self.local,
            journal,
            self.hint_store,
            taker,
            self.successions,
            lambda: random(8).hex(),
            now,
        )
        self.report = PeerReport(self.peers, self.hint_store)
        if members.own.state != "member":
            guard.successor = members.current_owner(incarnation)

    _peer_set = PeerSet
