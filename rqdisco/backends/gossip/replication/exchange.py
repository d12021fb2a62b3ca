"""The periodic anti-entropy exchange with each peer: swap digests, pull missed records, deliver
hints, and recover own records after a restart (R8). `PeerSet` runs the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.replication.own_recovery import OwnRecovery
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.replication.replica_parts import ReplicaParts
from rqdisco.backends.gossip.transport.messages import Added, Delta, Digest, Hints
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import expiry_watermark
from rqdisco.core.records import Moment
from rqdisco.storage.memory import metadata_change
from rqdisco.storage.shielding import shielded

REQUEST_SECONDS = 2.0
_MAX_ATTEMPTS = 3


class Exchange:
    """Bring this daemon and a peer to the same state. One object serves all peers. `on_digest` is
    called after each digest.
    """

    _log = Logger()

    def __init__(
        self,
        parts: ReplicaParts,
        hint_store: HintStore,
        own_recovery: OwnRecovery,
        wall_ms: Callable[[], int],
        on_digest: Callable[[], None],
    ) -> None:
        self._replication = parts.replication
        self._members = parts.members
        self._guard = parts.guard
        self._journal = parts.journal
        self._local = parts.local
        self._hint_store = hint_store
        self._wall_ms = wall_ms
        self._own = parts.members.own.incarnation
        self._pulling: set[str] = set()
        self._is_correcting = False
        self._on_digest = on_digest
        self._own_recovery = own_recovery
        self._watermarks = parts.watermarks

    def build_digest(self, fingerprint: str) -> Digest:
        """Build a digest for a peer that last sent `fingerprint`."""
        return Digest(
            held=self._replication.held,
            newest_beyond_gap=self._replication.newest_beyond_gap,
            issued=self._replication.newest_pending,
            expired=self._watermarks.all,
            fingerprint=self._members.fingerprint,
            members=() if fingerprint == self._members.fingerprint else self._members.all,
            stopped=self._guard.fenced,
        )

    def answer_digest(self, query: Digest, fenced: str | None, at: Moment) -> Digest:
        """Build the answer to a digest, with this daemon's time."""
        return replace(self.build_digest(query.fingerprint), fenced=fenced, at=at, wall_ms=self._wall_ms())

    async def sync(self, peer: Peer) -> None:
        """Swap digests and act on them. Raises PeerError's kinds, StoreUnavailable."""
        await self._exchange_digests(peer)
        await self.follow_up(peer)

    async def refresh_and_catch_up(self, peer: Peer) -> None:
        """Swap digests and pull what the peer has, without delivering hints. Raises as `sync`."""
        await self._exchange_digests(peer)
        await self.catch_up(peer)

    async def _exchange_digests(self, peer: Peer) -> None:
        for _ in range(_MAX_ATTEMPTS):
            received = peer.digests_received
            theirs = await peer.request("digest", self.build_digest(peer.fingerprint), Digest, REQUEST_SECONDS)
            if peer.digests_received == received:
                break
            # The peer sent a digest meanwhile, and which one is older is unknown.
        self.process_digest(peer, theirs)

    async def follow_up(self, peer: Peer) -> None:
        """Act on the last digest received. Raises as `sync`."""
        with suppress(StoreUnavailable):
            # A disk that still refuses writes must not stop what follows.
            await self.correct_refused()
        await self.catch_up(peer)
        await self.hand_over_hints(peer)

    def process_digest(self, peer: Peer, digest: Digest) -> None:
        """Store what a peer's digest reports: about the peer, the members, and this daemon."""
        self.write_metadata(self._members.learn(digest.members))
        peer.held, peer.fingerprint, peer.expired = digest.held, digest.fingerprint, digest.expired
        peer.stopped = digest.stopped
        peer.newest_issued = digest.issued or digest.held.get(peer.incarnation or "", 0)
        if digest.fingerprint == self._members.fingerprint:
            peer.differences = ()
        elif digest.members:
            peer.differences = self._members.differences(digest.members)
        peer.acked = digest.held.get(self._own, 0)
        peer.newest_of_ours = max(peer.acked, digest.newest_beyond_gap.get(self._own, 0))
        if digest.wall_ms:
            peer.clock_offset_ms = digest.wall_ms - self._wall_ms()
        if digest.fenced is not None and self._guard.fenced is None:
            self._guard.fenced = digest.fenced
            self._log.error("daemon fenced", why=digest.fenced)
        self._own_recovery.check_digest(peer)
        self._on_digest()

    async def catch_up(self, peer: Peer) -> None:
        """Recover own records, then pull all other records that a peer has and this daemon lacks.
        Raises as `sync`.
        """
        await self._own_recovery.recover_from(peer)
        await self._own_recovery.finish_if_ready()
        await self._learn_watermarks(peer)
        held = peer.held
        for owner in self._replication.behind(held):
            # Records already coming from another peer need not come twice.
            if owner != self._own and owner not in self._pulling:
                self._pulling.add(owner)
                try:
                    await pull(peer, owner, self._replication.cursor(owner), held[owner], self.apply_delta)
                finally:
                    self._pulling.discard(owner)
        peer.is_caught_up = peer.is_caught_up or not self._replication.behind(held)

    async def pull_all(self, peer: Peer, owner: str) -> None:
        """Pull all records of an owner that a peer has, also those beyond a gap. Raises as `sync`.

        This includes versions below the cursor: an owner on an older disk may have sent others
        versions beyond what it lacked.
        """
        await pull(peer, owner, 0, None, self.apply_delta)

    async def hand_over_hints(self, peer: Peer) -> None:
        """Deliver the hints stored for the IDs that a peer owns. Raises as `sync`."""
        incarnation = peer.incarnation
        assert incarnation is not None
        for owner in self._hint_store.owners:
            if self._members.current_owner(owner) != incarnation:
                continue
            while (oldest := self._hint_store.next_batch(owner))[1]:
                of, hints = oldest
                message = Hints(owner=incarnation, of=of, hints=tuple(hints))
                upto = (await peer.request("hints", message, Added, REQUEST_SECONDS)).upto
                if upto < hints[0].number:
                    break
                await self._hint_store.delete_upto(of, upto)

    @property
    def hinted_owners(self) -> list[str]:
        """The owners for which hints are stored here."""
        return self._hint_store.owners

    async def correct_refused(self) -> None:
        """Send peers the true state of records they received and this disk then refused. Raises
        StoreUnavailable.
        """
        if self._is_correcting or not self._guard.is_ready:
            # This disk may be older than what peers received (R8).
            return
        self._is_correcting = True
        try:
            while keys := self._replication.refused:
                changes = self._replication.put_corrections(keys, self._local.versions.next())
                if changes:
                    await self._journal.append(*changes)
                self._replication.confirm_corrections(keys)
        finally:
            self._is_correcting = False

    async def apply_delta(self, delta: Delta) -> None:
        """Apply a delta and return when it is durable. Raises Malformed, StoreUnavailable."""
        try:
            applied = self._replication.apply(delta)
        except BaseException:
            self._replication.rollback()
            raise
        for discovery_id in applied.conflicts:
            self._log.error("conflicting records of one ID", discovery_id=discovery_id)
        if not applied.changes:
            # Its records may be known, and not durable yet.
            await self._journal.barrier()
            return
        try:
            writing = self._journal.append(*applied.changes)
        except StoreUnavailable:
            self._replication.rollback()
            raise
        writing.addCallbacks(lambda _: self._replication.commit(delta, applied), self._roll_back)
        await shielded(writing)

    async def _learn_watermarks(self, peer: Peer) -> None:
        """Learn expiry watermarks of other owners; own ones are recovered like own records. Raises
        StoreUnavailable.
        """
        candidates = (expiry_watermark(owner, version) for owner, version in peer.expired.items() if owner != self._own)
        new = [each for each in candidates if each.number > self._watermarks.of(each.owner)]
        if new:
            await self._journal.append(*map(metadata_change, new))
            for watermark in new:
                self._watermarks.learn(watermark)

    def write_metadata(self, metadata: Iterable[Metadata]) -> None:
        """Write metadata in the background; a failed write raises nothing."""
        changes = [metadata_change(each) for each in metadata]
        if not changes:
            return
        try:
            self._journal.append(*changes).addErrback(lambda failure: failure.trap(StoreUnavailable))
        except StoreUnavailable:
            self._log.warn("member list not stored")

    def _roll_back(self, failure: Failure) -> Failure:
        self._replication.rollback()
        return failure
