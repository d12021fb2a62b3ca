"""Recovery of a restarted daemon's own records from its peers, before it decides about them (R8).

`Exchange` calls it in each exchange with a peer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.pulling import pull
from rqdisco.backends.gossip.replication.replica_parts import ReplicaParts
from rqdisco.backends.gossip.transport.messages import Delta
from rqdisco.core.codec import Metadata, decode_record
from rqdisco.core.expiry import expiry_watermark
from rqdisco.storage.memory import Change, metadata_change

# Prefix of the marker's key.
_MARKER = "!behind/"


class OwnRecovery:
    """Bring a disk that may be rolled back up to the newest own records that any peer has.

    The last peer contacted may have the newest version, so recovered records keep their versions
    until all peers were contacted. Then every record since the start gets a new version, since
    others may have passed over any version issued meanwhile. A marker on disk records above
    which version, in case this daemon stops in between.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        parts: ReplicaParts,
        metadata: Iterable[Metadata] = (),
    ) -> None:
        self._clock = clock
        self._replication = parts.replication
        self._guard = parts.guard
        self._journal = parts.journal
        self._local = parts.local
        self._own = own = parts.members.own.incarnation
        self._watermarks = parts.watermarks
        # The own expiry watermark, raised to what peers have; learned at the end.
        self._expired = expiry_watermark(own, parts.watermarks.of(own))
        # The version on disk at start: later records prove nothing about earlier ones.
        self._trusted_upto = parts.replication.own_cursor
        self._must_reissue = self._may_have_marker = self._was_ready = False
        for each in metadata:
            if each.id == _MARKER + own and not each.is_empty:
                self._trusted_upto = min(self._trusted_upto, each.number)
                self._must_reissue = self._may_have_marker = True

    @property
    def is_complete(self) -> bool:
        """Report whether all newer versions that peers may have had are recovered."""
        return self._guard.is_ready and not self._must_reissue

    def marker_before_write(self, changes: Sequence[Change]) -> Sequence[Change]:
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

    async def finish_if_ready(self) -> None:
        """Once all peers were contacted, reissue the records since the start. Raises
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
            await self._journal.append(metadata_change(Metadata(id=_MARKER + self._own, owner=self._own)))
            self._may_have_marker = False

    async def _reissue(self) -> None:
        """Give all own records above the trusted version new ones, in parts."""
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
        return Metadata(id=_MARKER + self._own, owner=self._own, number=self._trusted_upto, content="behind")
