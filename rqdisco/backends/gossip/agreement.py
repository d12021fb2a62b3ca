"""Whether the members know the same of each other, and what all of them gave out is here: only then
is a name new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication

# What is on its way when a claim comes is here well before that.
SECONDS = 1.0


class Agreement:
    """`peers` gives those that are members, `are_all_met` whether there is nobody that was never
    met.
    """

    def __init__(
        self,
        clock: IReactorTime,
        members: Members,
        replication: Replication,
        peers: Callable[[], Sequence[Peer]],
        are_all_met: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._members = members
        self._replication = replication
        self._peers = peers
        self._are_all_met = are_all_met
        self._waiting: list[Deferred[None]] = []

    def is_on_members(self) -> bool:
        """Whether all members are up and know the same members."""
        peers = self._peers()
        return (
            self._are_all_met()
            and len(peers) == len(self._members.others)
            and all(peer.is_up and peer.agreed == self._members.agreed for peer in peers)
        )

    def is_whole(self) -> bool:
        """The same, and whether all that they were last heard to have given out is here."""
        cursor = self._replication.cursor
        return self.is_on_members() and all(cursor(peer.incarnation or "") >= peer.issued for peer in self._peers())

    async def soon(self) -> bool:
        """Whether it is whole now, or within a second."""
        if self.is_whole():
            return True
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        try:
            await waiter.addTimeout(SECONDS, self._clock)
        except defer.TimeoutError:
            return False
        finally:
            self._waiting.remove(waiter)
        return True

    def look(self) -> None:
        """Something was heard, or taken: tell who waits."""
        if self._waiting and self.is_whole():
            for waiter in list(self._waiting):
                if not waiter.called:
                    waiter.callback(None)
