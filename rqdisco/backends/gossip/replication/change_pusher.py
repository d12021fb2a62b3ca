"""Telling members of own changes at once, and waiting until one of them has a change on its disk
(R6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.transport.links import PUSH_SECONDS, PeerError
from rqdisco.backends.gossip.transport.messages import Delta, Held, Page

# Messages on their way to one peer; what changes meanwhile goes along in the next.
AT_ONCE = 2
ACK_SECONDS = 1.0


class ChangePusher:
    """Pushes this daemon's own records to the peers that `taking_part` gives.

    `required` says that nobody is told it is alone unless a peer has the grant too, whether one is
    up or not.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        replication: Replication,
        own: str,
        taking_part: Callable[[], Sequence[Peer]],
        *,
        required: bool,
    ) -> None:
        self._clock = clock
        self._replication = replication
        self._own = own
        self._taking_part = taking_part
        self.is_required = required
        self._pushes: dict[Peer, _Pushes] = {}
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._is_stopped = False
        self.unreplicated = 0
        self.unreplicated_grants = 0

    async def replicated(self, version: int, *, is_grant: bool) -> bool:
        """Whether a member durably has the own change of that version, or none is up that could.

        False after a second of waiting, or at once where a grant requires a member that is up.
        """
        peers = self._taking_part()
        if any(peer.acked >= version for peer in peers):
            return True
        if not any(peer.is_up for peer in peers):
            self.unreplicated_grants += is_grant and not self.is_required
            return not (is_grant and self.is_required)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((version, waiter))
        try:
            await waiter.addTimeout(ACK_SECONDS, self._clock)
        except defer.TimeoutError:
            self.unreplicated += 1
            return False
        finally:
            self._waiting = [each for each in self._waiting if each[1] is not waiter]
        return True

    def push(self) -> None:
        """Send what is new to all who are up, as far as not too much is on its way to them
        already.
        """
        peers = self._taking_part()
        if self._waiting and peers:
            # Digests may have told more than the answers to pushes did.
            self._acknowledged_by(0, max(peer.acked for peer in peers))
        for peer in peers:
            if peer.is_up:
                self._push(peer)

    def stop(self) -> None:
        """Send no more."""
        self._is_stopped = True
        for pushes in list(self._pushes.values()):
            for asking in list(pushes.under_way):
                asking.cancel()

    def _push(self, peer: Peer) -> None:
        pushes = self._pushes.setdefault(peer, _Pushes())
        if not pushes.under_way:
            pushes.sent = peer.acked
        while not self._is_stopped and len(pushes.under_way) < AT_ONCE and pushes.sent < self._replication.told:
            delta = self._replication.delta(self._own, pushes.sent)
            if delta is None:
                # Too long ago to know what it lacks: it pulls pages of all, once it was told.
                peer.push_soon()
                return
            pushes.sent = delta.upto
            asking = Deferred.fromCoroutine(self._ask(peer, delta))
            pushes.under_way.add(asking)
            asking.addCallback(self._asked, peer, asking)

    def _asked(self, is_taken: bool, peer: Peer, asking: Deferred[Any]) -> None:
        pushes = self._pushes.get(peer, _Pushes())
        pushes.under_way.discard(asking)
        if is_taken:
            self._push(peer)
        elif not pushes.under_way:
            # The exchange of digests, each second, will find out what is missing.
            self._pushes.pop(peer, None)

    async def _ask(self, peer: Peer, delta: Delta) -> bool:
        try:
            told = await peer.ask("push", Page(delta=delta), Held, PUSH_SECONDS)
        except (PeerError, CancelledError):
            return False
        except Exception:
            self._log.failure("push failed", url=peer.url)
            return False
        peer.held[self._own] = told.held
        if told.held < delta.after:
            # It lacks what came before; but what was sent it has.
            peer.acked = max(peer.acked, told.held)
            self._acknowledged_by(delta.after, delta.upto)
        else:
            peer.acked = max(peer.acked, told.held, delta.upto)
            self._acknowledged_by(0, peer.acked)
        return True

    def _acknowledged_by(self, above: int, upto: int) -> None:
        for version, waiter in self._waiting:
            if above < version <= upto and not waiter.called:
                waiter.callback(None)


class _Pushes:
    """What is on its way to one peer, and up to which version that, and what came before, goes."""

    def __init__(self) -> None:
        self.sent = 0
        self.under_way: set[Deferred[Any]] = set()
