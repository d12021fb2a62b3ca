"""Telling members of own changes at once, and waiting until one of them has a change on its disk (R6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.peers.links import PeerError
from rqdisco.peers.messages import Held, Page
from rqdisco.peers.peer import Peer
from rqdisco.peers.replication import Replication

PUSH_SECONDS = 2.0
ACK_SECONDS = 1.0


class Witnesses:
    """Pushes this daemon's own records to the peers that `taking_part` gives, one message at a time to each: what
    changes meanwhile goes along in the next.

    `required` says that nobody is told it is alone unless a peer has the grant too, whether one is up or not.
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
        self._required = required
        self._pushing: dict[Peer, Deferred[None]] = {}
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._is_stopped = False
        self.unwitnessed = 0

    async def witnessed(self, version: int, *, is_grant: bool) -> bool:
        """Whether a member durably has the own change of that version, or none is up that could.

        False after a second of waiting, or at once where a grant requires a member that is up.
        """
        peers = self._taking_part()
        if any(peer.acked >= version for peer in peers):
            return True
        if not any(peer.is_up for peer in peers):
            return not (is_grant and self._required)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((version, waiter))
        try:
            await waiter.addTimeout(ACK_SECONDS, self._clock)
        except defer.TimeoutError:
            self.unwitnessed += 1
            return False
        finally:
            self._waiting = [each for each in self._waiting if each[1] is not waiter]
        return True

    def push(self) -> None:
        """Send what is new to all who are up, unless something is on its way to them already."""
        for peer in self._taking_part():
            if peer.is_up and peer not in self._pushing and not self._is_stopped:
                pushing = Deferred.fromCoroutine(self._push(peer))
                if not pushing.called:
                    self._pushing[peer] = pushing

    def stop(self) -> None:
        """Send no more."""
        self._is_stopped = True
        for pushing in list(self._pushing.values()):
            pushing.cancel()

    async def _push(self, peer: Peer) -> None:
        try:
            while peer.acked < self._replication.own_cursor and await self._push_once(peer):
                pass
        except (PeerError, CancelledError):
            # The exchange of digests, each second, will find out.
            pass
        except Exception:
            self._log.failure("push failed", url=peer.url)
        finally:
            self._pushing.pop(peer, None)

    async def _push_once(self, peer: Peer) -> bool:
        delta = self._replication.delta(self._own, peer.acked)
        if delta is None:
            # Too much: it will pull pages of it.
            return False
        told = await peer.ask("push", Page(delta=delta), Held, PUSH_SECONDS)
        peer.held[self._own] = told.held
        if told.held < delta.after:
            # It lacks what came before; but what was sent it has.
            peer.acked = told.held
            self._witness(delta.after, delta.upto)
            return delta.after > told.held
        peer.acked = max(told.held, delta.upto)
        self._witness(0, peer.acked)
        return True

    def _witness(self, above: int, upto: int) -> None:
        for version, waiter in self._waiting:
            if above < version <= upto and not waiter.called:
                waiter.callback(None)
