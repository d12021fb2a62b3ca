"""What a home that started takes back of its own from its peers, before it decides anything about it (R8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.decision_guard import Standing
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.transport.messages import Delta
from rqdisco.backends.single.directory import LocalDirectory
from rqdisco.core.codec import Note, decode_record
from rqdisco.core.expiry import Marks, mark
from rqdisco.storage.memory import Change, noted
from rqdisco.storage.wal.writer import Journal

_BEHIND = "!behind/"


class TakingBack:
    """Brings an own disk that is not the one that was up to what any peer knows.

    The newest of a record may be with the last peer that is heard: so what is taken back keeps its versions until all
    were heard. Then all that came to be since the start gets new ones, since others may have passed over any version
    that was given out meanwhile. A note keeps from when on, should this daemon end in between.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        replication: Replication,
        standing: Standing,
        journal: Journal,
        local: LocalDirectory,
        own: str,
        marks: Marks,
        notes: Iterable[Note] = (),
    ) -> None:
        self._clock = clock
        self._replication = replication
        self._standing = standing
        self._journal = journal
        self._local = local
        self._own = own
        self._marks = marks
        self._expired = mark(own, marks.of(own))
        # What the disk had at the start: what came to be since proves nothing of what was before.
        self._begun_at = replication.own_cursor
        self._was_behind = self._may_be_noted = self._was_established = False
        for note in notes:
            if note.id == _BEHIND + own and not note.is_empty:
                self._begun_at = min(self._begun_at, note.number)
                self._was_behind = self._may_be_noted = True

    @property
    def is_over(self) -> bool:
        """Whether all that others may have had newer was taken back."""
        return self._standing.is_established and not self._was_behind

    def writing(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What is to be written with own changes before all were heard: that they prove nothing, should this daemon
        start once more by then.
        """
        if self._standing.is_established or not self._replication.own_of(changes):
            return ()
        self._may_be_noted = True
        return (noted(self._behind()),)

    def hear(self, peer: Peer) -> None:
        """A peer told how far it has this daemon's own records: further than any was given out is a doubt."""
        if peer.newest_of_ours > max(self._replication.told, self._local.issued):
            assert peer.incarnation is not None
            self._standing.doubt(peer.incarnation)
            self._begun_at = min(self._begun_at, self._replication.own_cursor)

    async def from_peer(self, peer: Peer) -> None:
        """Take back what one has, unless that is done. Raises PeerError's kinds, StoreUnavailable."""
        assert peer.incarnation is not None
        newest, expired = peer.newest_of_ours, peer.expired.get(self._own, 0)
        has_more = newest > self._begun_at or expired > self._expired.number
        if not self._standing.has_heard(peer.incarnation) and has_more:
            await self._note_behind()
            # An unused ID that came to be since is not one of those that are gone, and must not look like one.
            self._expired = mark(self._own, max(expired, self._expired.number))
            self._replication.pass_over(max(newest, expired))
            await pull(peer, self._own, self._begun_at, None, self._take)
            self._replication.caught_up(newest)
        self._standing.heard(peer.incarnation)

    async def finish(self) -> None:
        """Give new versions to what came to be since the start, once all were heard. Raises StoreUnavailable."""
        if not self._standing.is_established:
            return
        if not self._was_established:
            self._was_established = True
            if not self._was_behind:
                self._begun_at = self._replication.own_cursor
        if self._was_behind:
            await self._reissue()
        if self._expired.number > self._marks.of(self._own):
            await self._journal.append(noted(self._expired))
            self._marks.learn(self._expired)
        if self._may_be_noted:
            await self._journal.append(noted(Note(id=_BEHIND + self._own, home=self._own)))
            self._may_be_noted = False

    async def _reissue(self) -> None:
        place = 0
        while True:
            keys, place = self._replication.of_home(self._own, place, above=self._begun_at)
            changes = self._replication.reissue([key.decode() for key in keys], self._local.next_version())
            if changes:
                await self._journal.append(*changes)
            if not place:
                break
            await deferLater(self._clock, 0)
        self._was_behind = False
        self._begun_at = self._replication.own_cursor

    async def _take(self, delta: Delta) -> None:
        changes = self._replication.take_back(delta)
        if changes:
            self._log.warn("taken back from a peer, which had newer versions", count=len(changes))
            for change in changes:
                self._local.took_back(decode_record(change.line))
            await self._journal.append(*changes)

    async def _note_behind(self) -> None:
        self._was_behind = self._may_be_noted = True
        await self._journal.append(noted(self._behind()))

    def _behind(self) -> Note:
        return Note(id=_BEHIND + self._own, home=self._own, number=self._begun_at, content="behind")
