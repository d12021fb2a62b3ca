"""Detect convergence: all members agree on the membership, and this daemon has all their changes.

Only then is an ID that is unknown here new: no other member has created it by name or imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication

# Changes in flight when a claim arrives are replicated well within this time.
WAIT_SECONDS = 1.0


class ConvergenceMonitor:
    """Compare this daemon's state with the last digests of its peers.

    `peers` returns the peers of active members; `all_peers_identified` reports whether every
    configured URL has been matched to a member.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Members,
        replication: Replication,
        peers: Callable[[], Sequence[Peer]],
        all_peers_identified: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._members = members
        self._replication = replication
        self._peers = peers
        self._all_peers_identified = all_peers_identified
        self._waiting: list[Deferred[None]] = []
        replication.on_cursor_moved.append(self.update)

    def members_agree(self) -> bool:
        """Report whether all members are up and list the same members."""
        peers = self._peers()
        return (
            self._all_peers_identified()
            and len(peers) == len(self._members.others)
            and all(peer.is_up and peer.fingerprint == self._members.fingerprint for peer in peers)
        )

    def is_converged(self) -> bool:
        """Report whether members agree, and this daemon has all changes that they last reported."""
        cursor = self._replication.cursor
        return self.members_agree() and all(
            cursor(peer.incarnation or "") >= peer.newest_issued for peer in self._peers()
        )

    def objection(self) -> str | None:
        """Return why members are not converged, in words that continue a sentence; None if they
        are.
        """
        if not self._all_peers_identified():
            return "not all peers were contacted"
        known = {peer.incarnation: peer for peer in self._peers()}
        silent = [
            each.name
            for each in self._members.others
            if (peer := known.get(each.incarnation)) is None or not peer.is_up
        ]
        if silent:
            return f"{' and '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
        if not self.members_agree():
            return "peers do not agree on who is a member"
        return None if self.is_converged() else "changes of peers are missing here"

    async def wait(self) -> bool:
        """Report whether the members are converged now or within a second."""
        if self.is_converged():
            return True
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        try:
            await waiter.addTimeout(WAIT_SECONDS, self._clock)
        except defer.TimeoutError:
            return False
        finally:
            self._waiting.remove(waiter)
        return True

    def update(self) -> None:
        """Wake waiters if the members are converged; call after each digest and cursor change."""
        if self._waiting and self.is_converged():
            for waiter in list(self._waiting):
                if not waiter.called:
                    waiter.callback(None)
