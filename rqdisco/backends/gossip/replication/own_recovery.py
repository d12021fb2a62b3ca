"""What a restarted owner recovers of its own records from peers before it decides about them
(R8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.replication.replica import Replica
from rqdisco.backends.gossip.transport.messages import Delta
from rqdisco.core.codec import Metadata, decode_record
from rqdisco.core.expiry import expiry_watermark
from rqdisco.storage.memory import Change, metadata_change

_BEHIND = "!behind/"


class OwnRecovery:
    """Brings a disk that may be an older one up to what any peer has.

    The newest version may be with the last peer contacted, so recovered records keep their versions
    until all peers were contacted. Then every record since the start gets a new version, since
    others may have passed over any version issued meanwhile. A marker on disk records from where
    on, in case this daemon stops in between.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        replica: Replica,
        notes: Iterable[Metadata] = (),
    ) -> None:
        self._clock = clock
        self._replication = replica.replication
        self._guard = replica.guard
        self._journal = replica.journal
        self._local = replica.local
        self._own = own = replica.members.own.incarnation
        self._watermarks = replica.watermarks
        self._expired = expiry_watermark(own, replica.watermarks.of(own))
        # The version on disk at start: later records prove nothing about earlier ones.
        self._trusted_upto = replica.replication.own_cursor
        self._must_reissue = self._may_have_marker = self._was_ready = False
        for note in notes:
            if note.id == _BEHIND + own and not note.is_empty:
                self._trusted_upto = min(self._trusted_upto, note.number)
                self._must_reissue = self._may_have_marker = True

    @property
    def is_complete(self) -> bool:
        """Report whether all newer versions that peers may have had are recovered."""
        return self._guard.is_ready and not self._must_reissue

    def before_write(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Return the marker to write with own changes before all peers were contacted: they prove
        nothing if this daemon restarts by then.
        """
        if self._guard.is_ready or not self._replication.own_changes(changes):
            return ()
        self._may_have_marker = True
        return (metadata_change(self._marker()),)

    def check_digest(self, peer: Peer) -> None:
        """Compare a peer's version of own records with the last one issued; a newer one retracts
        the peer's confirmation.
        """
        if peer.newest_of_ours > max(self._replication.published, self._local.versions.issued):
            assert peer.incarnation is not None
            self._guard.retract(peer.incarnation)
            self._trusted_upto = min(self._trusted_upto, self._replication.own_cursor)

    async def recover_from(self, peer: Peer) -> None:
        """Recover what a peer has, unless done already. Raises PeerError's kinds,
        StoreUnavailable.
        """
        assert peer.incarnation is not None
        newest, expired = peer.newest_of_ours, peer.expired.get(self._own, 0)
        has_more = newest > self._trusted_upto or expired > self._expired.number
        if not self._guard.is_confirmed(peer.incarnation) and has_more:
            await self._persist_marker()
            # An unused ID created since the start is not an expired one, and must not look like
            # one.
            self._expired = expiry_watermark(self._own, max(expired, self._expired.number))
            self._replication.skip_versions(max(newest, expired))
            await pull(peer, self._own, self._trusted_upto, None, self._recover_delta)
            self._replication.advance_own_cursor(newest)
        self._guard.confirm(peer.incarnation)

    async def finish(self) -> None:
        """Once all peers were contacted, reissue what came since the start. Raises
        StoreUnavailable.
        """
        if not self._guard.is_ready:
            return
        if not self._was_ready:
            self._was_ready = True
            if not self._must_reissue:
                self._trusted_upto = self._replication.own_cursor
        if self._must_reissue:
            await self._reissue()
        if self._expired.number > self._watermarks.of(self._own):
            await self._journal.append(metadata_change(self._expired))
            self._watermarks.learn(self._expired)
        if self._may_have_marker:
            await self._journal.append(metadata_change(Metadata(id=_BEHIND + self._own, owner=self._own)))
            self._may_have_marker = False

    async def _reissue(self) -> None:
        position = 0
        while True:
            keys, position = self._replication.keys_of_owner(self._own, position, above=self._trusted_upto)
            changes = self._replication.reissue([key.decode() for key in keys], self._local.versions.next())
            if changes:
                await self._journal.append(*changes)
            if not position:
                break
            await deferLater(self._clock, 0)
        self._must_reissue = False
        self._trusted_upto = self._replication.own_cursor

    async def _recover_delta(self, delta: Delta) -> None:
        changes = self._replication.recover(delta)
        if changes:
            self._log.warn("newer records recovered from a peer", count=len(changes))
            for change in changes:
                self._local.recovered(decode_record(change.line))
            await self._journal.append(*changes)

    async def _persist_marker(self) -> None:
        self._must_reissue = self._may_have_marker = True
        await self._journal.append(metadata_change(self._marker()))

    def _marker(self) -> Metadata:
        return Metadata(id=_BEHIND + self._own, owner=self._own, number=self._trusted_upto, content="behind")
