"""Leave out the exchanges of digests that would change nothing.

While each of two daemons knows what a digest of the other would tell it, rounds that would change
nothing are put off by some seconds; after a change the next one begins at a full second. The same
holds for a round that fails as the last one did: its peer is unreachable, or refuses it. An
exchange that would be lost or late takes place. One that would only be repeated does not, since the
repeated message is refused.
"""

from __future__ import annotations

from heapq import heappop
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from rqdisco.backends.gossip.core import contacts, exchange
from rqdisco.backends.gossip.core.messages import Digest
from rqdisco.backends.gossip.core.peer_errors import NotGreeted
from rqdisco.backends.gossip.core.state import Peer, State, ignore

if TYPE_CHECKING:
    from tests.simulated.boots import Boot
    from tests.simulated.network import Exchange
    from tests.simulated.world import World

# Two daemons exchange digests every second, and each begins every second time; with one exchange
# in five both begin.
_SECONDS = 1 / 0.6
# So many exchanges in a row may be left out.
_MOST = 36


class Rest(NamedTuple):
    """From when until when the rounds with a peer are put off. What was drawn for the end happens to
    the next message of this `stream`.
    """

    began: float
    until: float
    stream: str


class Rests:
    """The rests of one daemon. `changes` counts the changes of what it tells others."""

    __slots__ = ("_boot", "_refused", "_rests", "_vain", "_world", "changes")

    def __init__(self, boot: Boot, world: World) -> None:
        self._boot, self._world = boot, world
        self.changes = 0
        # The daemons that refuse it, by the key of the peer, and how much had changed here and there.
        self._refused: dict[int, tuple[Boot, int, int]] = {}
        # What rounds that changed nothing depended on, by the key of the peer.
        self._vain: dict[int, tuple[object, ...]] = {}
        # By the key of the peer.
        self._rests: dict[int, Rest] = {}

    def change(self) -> None:
        """Something changes at this daemon."""
        self.changes += 1
        self._world.acts()

    def arrived(self, changes: int) -> None:
        """Another daemon has the digest that this one sent after so many changes."""
        if changes != self.changes:
            # It may have had a newer one before.
            self._world.acts()

    @property
    def readiness(self) -> tuple[object, ...]:
        """The state that a round may change, and that it depends on besides the digests."""
        state = self._boot.state
        own = self.changes, len(state.confirmed), state.is_ready, state.was_ready
        return *own, state.agreed_on, state.finished_for

    def exchanged(self, sent: Exchange, other: Boot, answer: Any, before: tuple[object, ...]) -> None:
        """Another daemon answered a digest, a push or a hello, or refused it; this is the readiness
        `before` that.
        """
        key, peer = sent.key, self._boot.state.contacts.get(sent.key)
        if sent.changes_there != other.rests.changes:
            # The answer may be older than what came before it.
            self._world.acts()
        # A greeting follows NotGreeted at once, so only the last answer tells what the next one will be.
        self._refused.pop(key, None)
        if isinstance(answer, Digest):
            self._vain.pop(key, None)
            if peer is not None and peer.step is None and before == (now := self.readiness):
                self._vain[key] = now
        elif sent.verb != "push" and peer is not None and not (peer.is_up or isinstance(answer, NotGreeted)):
            self._refused[key] = other, sent.changes, sent.changes_there

    def put_off(self) -> bool:
        """Put off the rounds that are due and would change nothing. Return whether nothing is left
        to do now.
        """
        state, now = self._boot.state, self._world.timeline.now
        if not self._world.has_no_copy:
            # Whether a copy runs shows when it exchanges digests.
            return False
        is_any_due = False
        for peer in state.contacts.values():
            if peer.due_at is None or peer.due_at > now or peer.is_dropped:
                continue
            before = self._rests.pop(peer.key, None)
            if before is not None and now < before.until:
                self._world.choices.forget_next(before.stream)
                before = None
            may_rest = before is None and self._is_quiet(peer)
            if not (may_rest and self.put_off_round(peer, now)):
                is_any_due = True
        timers = state.timers
        while not is_any_due and timers and timers[0][0] <= now and timers[0][2].function is ignore:
            # A tick would do this alone.
            heappop(timers)
        return not is_any_due and bool(timers) and timers[0][0] > now

    def put_off_round(self, peer: Peer, now: float) -> bool:
        """Put off a round for as many seconds as its exchanges would pass; return whether it is."""
        boot, link = self._boot, self._boot.links[peer.key]
        way = f"{boot.host.name} {link.to}"
        is_greeted = link.session is not None and peer.session_number
        stream = f"{way} digest" if is_greeted else f"{way} hello"
        passed: int = self._world.choices.rest(f"{way} digest", stream, _MOST)
        if passed:
            until = now + passed * _SECONDS
            self._rests[peer.key] = Rest(now, until, stream)
            self._world.resting.append(self)
            contacts.plan(boot.state, peer, until)
        return passed > 0

    def end_soon(self) -> None:
        """Begin the rounds that were put off at their next full second."""
        boot, now = self._boot, self._world.timeline.now
        for key, rest in list(self._rests.items()) if boot.is_alive else ():
            peer = boot.state.contacts.get(key)
            at = rest.began + ceil(now - rest.began)
            if peer is not None and peer.due_at == rest.until and at < rest.until:
                del self._rests[key]
                self._world.choices.forget_next(rest.stream)
                contacts.plan(boot.state, peer, at)
                boot.wake_at(at)

    def _is_quiet(self, peer: Peer) -> bool:
        boot, net, state = self._boot, self._world.net, self._boot.state
        link = boot.links.get(peer.key)
        if link is None:
            return False
        if net.is_unreachable(boot.host.name, link.to):
            return link.is_down and not peer.is_up and not _has_leftovers(state)
        other = net.hosts[link.to].boot
        if other is None or other.sleeps_for:
            return False
        if not peer.is_up:
            refused = self._refused.get(peer.key)
            return refused == (other, self.changes, other.rests.changes) and not _has_leftovers(state)
        return (
            not link.is_down
            and link.session is not None
            and peer.remote_clock is not None
            and peer.remote_clock.session_number == peer.session_number
            and _know_each_other(state, peer, other.state)
            and (exchange.is_up_to_date(state, peer) or self._is_vain(peer))
        )

    def _is_vain(self, peer: Peer) -> bool:
        """Report whether a round would change as little as the last one."""
        state = self._boot.state
        return (
            peer.fingerprint == state.members.fingerprint
            and peer.acked >= state.cursors.published
            and not (state.replication_waits or state.convergence_waits or _has_leftovers(state))
            and self._vain.get(peer.key) == self.readiness
        )


def _know_each_other(state: State, peer: Peer, other: State) -> bool:
    """Report whether two daemons, one of which is a peer to the first, would tell each other nothing
    new.
    """
    back = other.peers.get(state.own)
    return back is not None and _knows(peer, state, other) and _knows(back, other, state)


def _knows(peer: Peer, state: State, other: State) -> bool:
    """Report whether a daemon knows, as the state of its peer, what that one would tell it."""
    cursors, members = other.cursors, other.members
    held, beyond = cursors.summary
    return (
        peer.held == held
        and peer.newest_of_ours == max(held.get(state.own, 0), beyond.get(state.own, 0))
        and peer.newest_issued == (other.own_writes.newest_pending or held.get(other.own, 0))
        and peer.expired == other.watermarks.all
        and peer.fingerprint == members.fingerprint
        and peer.fenced_reason == other.fenced
        and peer.has_unmet == bool(other.unidentified)
    )


def _has_leftovers(state: State) -> bool:
    """Report whether the end of any round may have something to do."""
    return bool(state.hints.undeleted or state.pending_grants or state.unrecorded_answers or state.takeovers_running)
