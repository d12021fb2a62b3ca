"""Push own changes to members at once, and wait for the first durable acknowledgement (R6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.transport.links import PUSH_SECONDS, PeerError
from rqdisco.backends.gossip.transport.messages import Delta, Held, Page

# Pushes in flight per peer; changes made meanwhile go into the next one.
MAX_IN_FLIGHT = 2
ACK_SECONDS = 1.0


class ChangePusher:
    """Pushes this daemon's own records to the peers that `active_peers` returns.

    With `required`, no bootstrap is granted unless a peer has acknowledged it, even if none is up.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        replication: Replication,
        own: str,
        active_peers: Callable[[], Sequence[Peer]],
        *,
        required: bool,
    ) -> None:
        self._clock = clock
        self._replication = replication
        self._own = own
        self._active_peers = active_peers
        self.is_required = required
        self._pushes: dict[Peer, _PeerPushes] = {}
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._is_stopped = False
        self.unreplicated = 0
        self.unreplicated_grants = 0
        replication.on_own_changes.append(self.push)

    async def replicated(self, version: int, *, is_grant: bool) -> bool:
        """Report whether a member durably has an own change, or none is up that could.

        False after a second of waiting, or at once if a grant requires a member that is up.
        """
        peers = self._active_peers()
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
        """Send new changes to all peers that are up, within the limit of pushes in flight."""
        peers = self._active_peers()
        if self._waiting and peers:
            # Digests may acknowledge more than the replies to pushes did.
            self._acknowledge(0, max(peer.acked for peer in peers))
        for peer in peers:
            if peer.is_up:
                self._push(peer)

    def stop(self) -> None:
        """Cancel all pushes."""
        self._is_stopped = True
        for pushes in list(self._pushes.values()):
            for sending in list(pushes.in_flight):
                sending.cancel()

    def _push(self, peer: Peer) -> None:
        pushes = self._pushes.setdefault(peer, _PeerPushes())
        if not pushes.in_flight:
            pushes.sent = peer.acked
        while (
            not self._is_stopped and len(pushes.in_flight) < MAX_IN_FLIGHT and pushes.sent < self._replication.published
        ):
            delta = self._replication.delta(self._own, pushes.sent)
            if delta is None:
                # Older than the change log: the peer pulls pages of everything once it has our
                # digest.
                peer.exchange_soon()
                return
            pushes.sent = delta.upto
            sending = Deferred.fromCoroutine(self._send_delta(peer, delta))
            pushes.in_flight.add(sending)
            sending.addCallback(self._push_finished, peer, sending)

    def _push_finished(self, is_acknowledged: bool, peer: Peer, sending: Deferred[bool]) -> None:
        pushes = self._pushes.get(peer, _PeerPushes())
        pushes.in_flight.discard(sending)
        if is_acknowledged:
            self._push(peer)
        elif not pushes.in_flight:
            # The periodic digest exchange finds what is missing.
            self._pushes.pop(peer, None)

    async def _send_delta(self, peer: Peer, delta: Delta) -> bool:
        try:
            reply = await peer.request("push", Page(delta=delta), Held, PUSH_SECONDS)
        except (PeerError, CancelledError):
            return False
        except Exception:
            self._log.failure("push failed", url=peer.url)
            return False
        peer.held[self._own] = reply.held
        if reply.held < delta.after:
            # It lacks earlier changes, but has those of this push.
            peer.acked = max(peer.acked, reply.held)
            self._acknowledge(delta.after, delta.upto)
        else:
            peer.acked = max(peer.acked, reply.held, delta.upto)
            self._acknowledge(0, peer.acked)
        return True

    def _acknowledge(self, above: int, upto: int) -> None:
        for version, waiter in self._waiting:
            if above < version <= upto and not waiter.called:
                waiter.callback(None)


class _PeerPushes:
    """Pushes in flight to one peer, and the version up to which they, and earlier ones, reach."""

    def __init__(self) -> None:
        self.sent = 0
        self.in_flight: set[Deferred[bool]] = set()
