"""What is told each second: digests, what was missed since, and what a restarted home has to take
back (R8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication, Taken
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.replication.own_recovery import OwnRecovery
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.transport.messages import Added, Delta, Digest, Hints
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks, expiry_watermark
from rqdisco.core.records import Moment
from rqdisco.storage.memory import metadata_change
from rqdisco.storage.shielding import shielded
from rqdisco.storage.wal.writer import Journal

ASK_SECONDS = 2.0
_MOST_ASKED_AGAIN = 3


class Exchange:
    """Brings this daemon and one peer to the same state, one step at a time."""

    _log = Logger()

    def __init__(
        self,
        replication: Replication,
        members: Members,
        guard: DecisionGuard,
        journal: Journal,
        local: SingleDirectory,
        hint_store: HintStore,
        own_recovery: OwnRecovery,
        watermarks: ExpiryWatermarks,
        wall_ms: Callable[[], int],
    ) -> None:
        self._replication = replication
        self._members = members
        self._guard = guard
        self._journal = journal
        self._local = local
        self._hint_store = hint_store
        self._wall_ms = wall_ms
        self._own = members.own.incarnation
        self._pulling: set[str] = set()
        self._is_correcting = False
        # Told that a digest was heard.
        self.on_digest: Callable[[], None] | None = None
        self._own_recovery = own_recovery
        self._watermarks = watermarks

    def digest(self, agreed: str) -> Digest:
        """What this daemon tells somebody who said that `agreed`."""
        return Digest(
            held=self._replication.held,
            beyond=self._replication.beyond,
            issued=self._replication.issuing,
            expired=self._watermarks.all,
            agreed=self._members.agreed,
            members=() if agreed == self._members.agreed else self._members.all,
            stopped=self._guard.fenced,
        )

    def answer(self, asked: Digest, fenced: str | None, at: Moment) -> Digest:
        """The same in answer to a digest, with the times here."""
        return replace(self.digest(asked.agreed), fenced=fenced, at=at, wall_ms=self._wall_ms())

    async def with_peer(self, peer: Peer) -> None:
        """One exchange. Raises PeerError's kinds, StoreUnavailable."""
        await self._ask(peer)
        await self.go_on(peer)

    async def catch_up_with(self, peer: Peer) -> None:
        """Take over all that a peer has now. Raises as `with_peer`."""
        await self._ask(peer)
        await self.catch_up(peer)

    async def _ask(self, peer: Peer) -> None:
        for _ in range(_MOST_ASKED_AGAIN):
            heard = peer.digests_received
            theirs = await peer.ask("digest", self.digest(peer.agreed), Digest, ASK_SECONDS)
            if peer.digests_received == heard:
                break
            # It told one by itself meanwhile; nobody can say which of both is the older one.
        self.hear(peer, theirs)

    async def go_on(self, peer: Peer) -> None:
        """What follows from the digest that was heard last. Raises as `with_peer`."""
        with suppress(StoreUnavailable):
            # What the disk still refuses keeps nobody from learning the rest.
            await self.correct()
        await self.catch_up(peer)
        await self.hand_over_hints(peer)

    def hear(self, peer: Peer, digest: Digest) -> None:
        """Take in what a peer says of itself."""
        self.keep(self._members.learn(digest.members))
        peer.held, peer.agreed, peer.expired = digest.held, digest.agreed, digest.expired
        peer.stopped = digest.stopped
        peer.issued = digest.issued or digest.held.get(peer.incarnation or "", 0)
        if digest.agreed == self._members.agreed:
            peer.differs = ()
        elif digest.members:
            peer.differs = self._members.differences(digest.members)
        peer.acked = digest.held.get(self._own, 0)
        peer.newest_of_ours = max(peer.acked, digest.beyond.get(self._own, 0))
        if digest.wall_ms:
            peer.offset_ms = digest.wall_ms - self._wall_ms()
        if digest.fenced is not None and self._guard.fenced is None:
            self._guard.fenced = digest.fenced
            self._log.error("nothing is decided here any more", why=digest.fenced)
        self._own_recovery.hear(peer)
        if self.on_digest is not None:
            self.on_digest()

    async def catch_up(self, peer: Peer) -> None:
        """Pull what a peer has more of. Raises as `with_peer`."""
        await self._own_recovery.from_peer(peer)
        await self._own_recovery.finish()
        await self._take_watermarks(peer)
        held = peer.held
        for owner in self._replication.behind(held):
            # What is had from another peer already need not come twice.
            if owner != self._own and owner not in self._pulling:
                self._pulling.add(owner)
                try:
                    await pull(peer, owner, self._replication.cursor(owner), held[owner], self.take)
                finally:
                    self._pulling.discard(owner)
        peer.is_caught_up = peer.is_caught_up or not self._replication.behind(held)

    async def pull_all(self, peer: Peer, owner: str) -> None:
        """Pull all that a peer has of a home, beyond a gap too. Raises as `with_peer`.

        Also what the cursor has passed: a home on an older disk may have told others of versions
        beyond what it lacked.
        """
        await pull(peer, owner, 0, None, self.take)

    async def hand_over_hints(self, peer: Peer) -> None:
        """Give a home the hints that are kept for it. Raises as `with_peer`."""
        incarnation = peer.incarnation
        assert incarnation is not None
        for owner in self._hint_store.owners:
            if self._members.current_owner(owner) != incarnation:
                continue
            while (oldest := self._hint_store.oldest(owner))[1]:
                of, hints = oldest
                message = Hints(owner=incarnation, of=of, hints=tuple(hints))
                upto = (await peer.ask("hints", message, Added, ASK_SECONDS)).upto
                if upto < hints[0].number:
                    break
                await self._hint_store.forget(of, upto)

    @property
    def hinted_owners(self) -> list[str]:
        """Those for whom hints are kept here."""
        return self._hint_store.owners

    async def correct(self) -> None:
        """Tell peers what is true where they were told what this disk then refused. Raises
        StoreUnavailable.
        """
        if self._is_correcting or not self._guard.is_ready:
            # What this disk has may be older than what peers were told (R8).
            return
        self._is_correcting = True
        try:
            while keys := self._replication.refused:
                changes = self._replication.correct(keys, self._local.versions.next())
                if changes:
                    await self._journal.append(*changes)
                self._replication.corrected(keys)
        finally:
            self._is_correcting = False

    async def take(self, delta: Delta) -> None:
        """Return when a delta is on the disk. Raises Malformed, StoreUnavailable."""
        try:
            taken = self._replication.take(delta)
        except BaseException:
            self._replication.not_taken()
            raise
        self._alarm(taken)
        if not taken.changes:
            # What it tells may be known, and not on the disk yet.
            await self._journal.barrier()
            return
        try:
            writing = self._journal.append(*taken.changes)
        except StoreUnavailable:
            self._replication.not_taken()
            raise
        writing.addCallbacks(lambda _: self._replication.taken(delta, taken), self._not_taken)
        await shielded(writing)

    async def _take_watermarks(self, peer: Peer) -> None:
        """Learn which IDs of others are gone; what is said of this daemon's own is taken back like
        its records. Raises StoreUnavailable.
        """
        told = (expiry_watermark(owner, version) for owner, version in peer.expired.items() if owner != self._own)
        new = [note for note in told if note.number > self._watermarks.of(note.owner)]
        if new:
            await self._journal.append(*map(metadata_change, new))
            for note in new:
                self._watermarks.learn(note)

    def keep(self, notes: Iterable[Metadata]) -> None:
        """Write notes that nobody waits for."""
        changes = [metadata_change(note) for note in notes]
        if not changes:
            return
        try:
            self._journal.append(*changes).addErrback(lambda failure: failure.trap(StoreUnavailable))
        except StoreUnavailable:
            self._log.warn("what is known of peers could not be kept")

    def _not_taken(self, failure: Failure) -> Failure:
        self._replication.not_taken()
        return failure

    def _alarm(self, taken: Taken) -> None:
        for discovery_id in taken.clashes:
            self._log.error("two daemons say different things of one ID", discovery_id=discovery_id)
