"""Joins the parts of a daemon that has peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.directory import PeeredDirectory
from rqdisco.backends.gossip.membership.decision_guard import Standing
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import HintBook, HintTaker
from rqdisco.backends.gossip.replication.own_recovery import TakingBack
from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.request_handler import PeerAnswers
from rqdisco.backends.gossip.succession import Successions
from rqdisco.backends.gossip.transport.http_link import Keys
from rqdisco.backends.gossip.transport.keyring import KeyRing
from rqdisco.backends.gossip.transport.links import Link
from rqdisco.backends.gossip.transport.messages import FEATURES, Member
from rqdisco.backends.single.directory import Limits, LocalDirectory
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Note, decode_note, join_record
from rqdisco.core.expiry import Marks
from rqdisco.core.host_binding import LOCALHOST
from rqdisco.core.ids import RandomBytes
from rqdisco.core.records import Moment
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.writer import Journal


class Peering(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of peers: this daemon's name and URL, where to find others, what a grant needs."""

    name: str
    url: str
    seeds: tuple[str, ...] = ()
    ack_required: bool = False


def kept_notes(notes: Iterable[tuple[bytes, bytes]]) -> Sequence[Note]:
    """The notes that were found on the disk."""
    return [decode_note(join_record(key, rest)) for key, rest in notes]


def known_members(notes: Iterable[tuple[bytes, bytes]], own: str) -> Sequence[Member]:
    """The other daemons that still take part, as far as was kept."""
    kept = kept_notes(notes)
    return Members(Member(incarnation=own, name="", url=""), kept).others


class Peered:
    """A daemon's directory, what keeps it in step with its peers, and what answers those.

    `notes` are what was kept about peers, `link` makes the way to a URL, `jitter` gives numbers around 1.
    """

    def __init__(
        self,
        peering: Peering,
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
        kept = kept_notes(notes)
        own = Member(incarnation=incarnation, name=peering.name, url=peering.url, features=FEATURES)
        members = Members(own, kept)
        boot = random(8).hex()
        self.marks = Marks(kept)
        replication = Replication(incarnation, store, kept, marks=self.marks, era=int(boot[:7], 16) + 1)
        standing = Standing(lambda: members.own, lambda: members.others, lambda: self.peers.is_unmet)
        self.peers = self._peer_set(
            clock,
            members,
            replication,
            standing,
            link,
            peering.seeds,
            boot,
            jitter,
            lambda: wall_us() // 1000,
            ack_required=peering.ack_required,
        )
        self.local = LocalDirectory(
            store,
            journal,
            incarnation,
            now=now,
            wall_us=wall_us,
            random=random,
            limits=limits,
            others=self.peers,
            # Who reaches it by a loopback address is on its machine.
            machine=LOCALHOST if is_local(peering.url) else None,
        )
        self.book = HintBook(journal, lambda: wall_us() // 1000, members.home_now, kept)
        taker = HintTaker(self.local, journal, lambda: standing.is_established, kept)
        taking_back = TakingBack(clock, replication, standing, journal, self.local, incarnation, self.marks, kept)
        exchange = Exchange(
            replication,
            members,
            standing,
            journal,
            self.local,
            self.book,
            taking_back,
            self.marks,
            lambda: wall_us() // 1000,
        )
        # Whether this daemon may say that IDs of its own are gone.
        self.may_expire = lambda: standing.objection is None and taking_back.is_over
        self.store = store
        self.directory = PeeredDirectory(
            self.local,
            store,
            self.peers,
            self.book,
            clock,
            lambda: random(8).hex(),
            window_ms=limits.window_ms,
        )
        replication.on_foreign = self.directory.changed

        def writing(changes: Sequence[Change], may_tell: bool) -> Sequence[Change]:
            may_correct = standing.is_established
            besides = replication.writing(changes, may_tell=may_tell, may_correct=may_correct)
            return (*besides, *taking_back.writing(changes))

        journal.on_writing = writing
        self.successions = Successions(
            clock, self.peers, exchange, self.local, store, journal, lambda: self.local.is_deciding
        )
        self.peers.use(exchange, self.book, taker, self.successions.go_on)
        self.answers = PeerAnswers(
            clock,
            self.peers,
            self.local,
            journal,
            self.book,
            taker,
            self.successions,
            lambda: random(8).hex(),
            now,
        )
        self.report = PeerReport(self.peers, self.book)
        if members.own.state != "member":
            standing.successor = members.home_now(incarnation)

    _peer_set = PeerSet
