"""What a home that started takes back of its own from its peers, before it decides anything about
it (R8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.transport.messages import Delta
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.codec import Metadata, decode_record
from rqdisco.core.expiry import ExpiryWatermarks, expiry_watermark
from rqdisco.storage.memory import Change, metadata_change
from rqdisco.storage.wal.writer import Journal

_BEHIND = "!behind/"


class OwnRecovery:
    """Brings an own disk that is not the one that was up to what any peer knows.

    The newest of a record may be with the last peer that is heard: so what is taken back keeps its
    versions until all were heard. Then all that came to be since the start gets new ones, since
    others may have passed over any version that was given out meanwhile. A note keeps from when on,
    should this daemon end in between.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        replication: Replication,
        guard: DecisionGuard,
        journal: Journal,
        local: SingleDirectory,
        own: str,
        watermarks: ExpiryWatermarks,
        notes: Iterable[Metadata] = (),
    ) -> None:
        self._clock = clock
        self._replication = replication
        self._guard = guard
        self._journal = journal
        self._local = local
        self._own = own
        self._watermarks = watermarks
        self._expired = expiry_watermark(own, watermarks.of(own))
        # What the disk had at the start: what came to be since proves nothing of what was before.
        self._begun_at = replication.own_cursor
        self._was_behind = self._may_be_recorded = self._was_ready = False
        for note in notes:
            if note.id == _BEHIND + own and not note.is_empty:
                self._begun_at = min(self._begun_at, note.number)
                self._was_behind = self._may_be_recorded = True

    @property
    def is_over(self) -> bool:
        """Whether all that others may have had newer was taken back."""
        return self._guard.is_ready and not self._was_behind

    def writing(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What is to be written with own changes before all were heard: that they prove nothing,
        should this daemon start once more by then.
        """
        if self._guard.is_ready or not self._replication.own_of(changes):
            return ()
        self._may_be_recorded = True
        return (metadata_change(self._behind()),)

    def hear(self, peer: Peer) -> None:
        """A peer told how far it has this daemon's own records: further than any was given out is a
        doubt.
        """
        if peer.newest_of_ours > max(self._replication.told, self._local.issued):
            assert peer.incarnation is not None
            self._guard.doubt(peer.incarnation)
            self._begun_at = min(self._begun_at, self._replication.own_cursor)

    async def from_peer(self, peer: Peer) -> None:
        """Take back what one has, unless that is done. Raises PeerError's kinds,
        StoreUnavailable.
        """
        assert peer.incarnation is not None
        newest, expired = peer.newest_of_ours, peer.expired.get(self._own, 0)
        has_more = newest > self._begun_at or expired > self._expired.number
        if not self._guard.has_heard_from(peer.incarnation) and has_more:
            await self._note_behind()
            # An unused ID that came to be since is not one of those that are gone, and must not
            # look like one.
            self._expired = expiry_watermark(self._own, max(expired, self._expired.number))
            self._replication.pass_over(max(newest, expired))
            await pull(peer, self._own, self._begun_at, None, self._take)
            self._replication.caught_up(newest)
        self._guard.heard(peer.incarnation)

    async def finish(self) -> None:
        """Give new versions to what came to be since the start, once all were heard. Raises
        StoreUnavailable.
        """
        if not self._guard.is_ready:
            return
        if not self._was_ready:
            self._was_ready = True
            if not self._was_behind:
                self._begun_at = self._replication.own_cursor
        if self._was_behind:
            await self._reissue()
        if self._expired.number > self._watermarks.of(self._own):
            await self._journal.append(metadata_change(self._expired))
            self._watermarks.learn(self._expired)
        if self._may_be_recorded:
            await self._journal.append(metadata_change(Metadata(id=_BEHIND + self._own, owner=self._own)))
            self._may_be_recorded = False

    async def _reissue(self) -> None:
        place = 0
        while True:
            keys, place = self._replication.of_owner(self._own, place, above=self._begun_at)
            changes = self._replication.reissue([key.decode() for key in keys], self._local.next_version())
            if changes:
                await self._journal.append(*changes)
            if not place:
                break
            await deferLater(self._clock, 0)
        self._was_behind = False
        self._begun_at = self._replication.own_cursor

    async def _take(self, delta: Delta) -> None:
        changes = self._replication.reclaim(delta)
        if changes:
            self._log.warn("taken back from a peer, which had newer versions", count=len(changes))
            for change in changes:
                self._local.recovered(decode_record(change.line))
            await self._journal.append(*changes)

    async def _note_behind(self) -> None:
        self._was_behind = self._may_be_recorded = True
        await self._journal.append(metadata_change(self._behind()))

    def _behind(self) -> Metadata:
        return Metadata(id=_BEHIND + self._own, owner=self._own, number=self._begun_at, content="behind")
