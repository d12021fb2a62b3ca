"""All peers of this daemon: who they are, the loop that keeps up with each, and what a home asks of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.agreement import Agreement
from rqdisco.backends.gossip.barriers import Barriers
from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members, Session, check_member
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.change_pusher import ChangePusher
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import AT_ONCE, HintMerger, HintStore
from rqdisco.backends.gossip.transport.links import Link, PeerError, Rejected
from rqdisco.backends.gossip.transport.messages import FEATURES, HIDDEN_CLAIMS, Hello, Member
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Node, Record

INTERVAL = 1.0
_LASTING = 3


class PeerSet(Service):
    """The peers at the `seeds`, and all that are learned of through them; `boot` names this start
    of the daemon.

    It is what the directory of this daemon takes for its `Coordinator`.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        members: Members,
        replication: Replication,
        guard: DecisionGuard,
        link: Callable[[str], Link],
        seeds: Sequence[str],
        boot: str,
        jitter: Callable[[], float],
        wall_ms: Callable[[], int],
        *,
        ack_required: bool = False,
    ) -> None:
        self._clock = clock
        self.members = members
        self.replication = replication
        self.guard = guard
        self._link = link
        self.boot = boot
        self._jitter = jitter
        self._wall_ms = wall_ms
        self._own = members.own.incarnation
        self._began_with_records = replication.own_cursor > 0
        self._began_with_others = bool(members.others)
        self.peers: dict[str, Peer] = {}
        self.strangers: dict[str, Peer] = {}
        self._seeds = seeds
        self._agreed = ""
        self.is_out = False
        self._loops: dict[Peer, Deferred[None]] = {}
        self.change_pusher = ChangePusher(clock, replication, self._own, self.taking_part, required=ack_required)
        replication.on_own = self.change_pusher.push
        self.agreement = Agreement(clock, members, replication, self.taking_part, lambda: not self.strangers)
        replication.on_reached = self.agreement.look
        self.go_on: Callable[[], Coroutine[Any, Any, None]]
        self.exchange: Exchange
        self.barriers: Barriers
        self._hint_store: HintStore
        self._taker: HintMerger

    def use(
        self,
        exchange: Exchange,
        hint_store: HintStore,
        taker: HintMerger,
        go_on: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """What works with the directory, which in turn needs this; `go_on` is called now and then
        once established.
        """
        self.go_on = go_on
        self._hint_store, self._taker = hint_store, taker
        self.exchange = exchange
        exchange.on_digest = self.agreement.look
        self.barriers = Barriers(self.members, self.peers, taker)

    def startService(self) -> None:
        super().startService()
        for url in self._seeds:
            self._add(url)
        self.learned()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        self.change_pusher.stop()
        loops = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        return DeferredList(loops, consumeErrors=True)

    # What the directory asks.

    def check(self, record: Record) -> None:
        """The one answer to whether this daemon may decide about an ID of its own now.

        Not with a twin or a successor; not before all members were heard since the start (R8); and
        not before what it answered itself meanwhile is on the list. What others answered is asked
        for by the barrier (R5).
        """
        self.guard.check(record)
        self._merge(record.id)

    def hinted(self, discovery_id: str) -> Sequence[Node]:
        return self._hint_store.of(discovery_id)

    def hide_claims(self) -> bool:
        # One that was never met is taken for one that hides them: what is shown once is never
        # repeated.
        return all(not each.features or HIDDEN_CLAIMS in each.features for each in self.members.others)

    def repeat_claims(self) -> bool:
        return all(HIDDEN_CLAIMS in each.features for each in self.members.others)

    async def merge_hints(self) -> None:
        """Add all that this daemon answered before it was ready, some in each turn. Raises
        StoreUnavailable.
        """
        ids = self._hint_store.ids(self._own)
        for start in range(0, len(ids), AT_ONCE):
            if start:
                await deferLater(self._clock, 0)
            for discovery_id in ids[start : start + AT_ONCE]:
                self._merge(discovery_id)

    def _merge(self, discovery_id: str) -> None:
        merging = self._taker.merge_own(self._hint_store, self._own, discovery_id)
        if merging is not None:
            # What the disk refuses undoes all that was built upon it, and is tried again.
            merging.addErrback(lambda failure: failure.trap(StoreUnavailable))

    def check_unknown(self) -> None:
        self.guard.check_ready()

    def is_lost(self, owner: str) -> bool:
        member = self.members.get(owner)
        return member is None or member.state != "drained"

    def created(self, discovery_id: str) -> None:
        if (objection := self.guard.objection) is not None:
            raise Undecided(objection)
        self.guard.created(discovery_id)

    async def replicated(self, version: int, *, is_grant: bool) -> bool:
        return await self.change_pusher.replicated(version, is_grant=is_grant)

    async def barrier(self, record: Record) -> None:
        await self.barriers.bring(record)

    # What answers peers, and the routes to homes, ask.

    def taking_part(self) -> list[Peer]:
        """The peers that are members, whether they answer or not."""
        return [self.peers[each.incarnation] for each in self.members.others if each.incarnation in self.peers]

    def is_up(self, incarnation: str) -> bool:
        """Whether a member answered the last time."""
        return incarnation in self.peers and self.peers[incarnation].is_up

    def contact(self, incarnation: str) -> float | None:
        """Seconds since a member was last heard in this boot, None if it was not."""
        peer = self.peers.get(incarnation)
        return None if peer is None or peer.contact is None else max(0.0, self._clock.seconds() - peer.contact)

    @property
    def is_unmet(self) -> bool:
        """Whether there are to be peers, and this daemon never knew of any: its disk may be from
        before it did.
        """
        return self._began_with_records and bool(self.strangers) and not self.members.others

    @property
    def to_be_taken_over(self) -> list[str]:
        """Whose records are still to come to a daemon that began without any of its peers'."""
        if self._began_with_others or any(peer.is_caught_up for peer in self.peers.values()):
            return []
        coming = [url for url, peer in self.strangers.items() if not peer.was_attempted]
        return [*coming, *(peer.url for peer in self.peers.values() if peer.is_up)]

    def hello(self) -> Hello:
        """What this daemon says of itself."""
        own = self.members.own
        return Hello(
            name=own.name,
            incarnation=own.incarnation,
            boot=self.boot,
            url=own.url,
            features=FEATURES,
            members=self.members.all,
            wall_ms=self._wall_ms(),
        )

    def check_greeting(self, hello: Hello) -> None:
        """Raise Rejected for who must not take part, Malformed. Nothing is changed: it may be an
        old hello of anybody, this daemon included, that somebody repeats.
        """
        check_member(_member(hello))
        if hello.incarnation == self._own and hello.boot == self.boot:
            raise Rejected("this is you yourself")
        known = self.members.get(hello.incarnation)
        if known is not None and known.state in ("forgotten", "drained"):
            raise Rejected(f"{known.state}: the IDs of {hello.incarnation} have another home")

    def greeted_by(self, hello: Hello) -> None:
        """Take in what a living daemon says of itself. Raises Rejected where it must not take part,
        Malformed.
        """
        self.check_greeting(hello)
        member = _member(hello)
        if hello.incarnation == self._own:
            self.fence(f"two daemons run as incarnation {self._own}")
            raise Rejected(f"two daemons run as incarnation {self._own}")
        self.exchange.keep(self.members.learn(hello.members))
        self.exchange.keep(self.members.learn([member], by_itself=hello.incarnation))
        self.learned()

    def fence(self, why: str) -> None:
        """Decide nothing any more, for as long as this daemon runs."""
        if self.guard.fenced is None:
            self._log.error("nothing is decided here any more", why=why)
        self.guard.fenced = why

    def learned(self) -> None:
        """Have a peer for each member, and see what others made of this one."""
        if self.members.own.state == "forgotten" and self.guard.objection is not None:
            self.fence(self.guard.objection)
        for member in self.members.others:
            peer = self.peers.get(member.incarnation)
            if peer is None or peer.url != member.url:
                self._add(member.url, member.incarnation)
        urls = {each.url for each in self.members.all}
        for url in [url for url in self.strangers if url in urls]:
            self._drop(self.strangers.pop(url))
        for incarnation in list(self.peers):
            if incarnation not in {each.incarnation for each in self.members.others}:
                self._drop(self.peers.pop(incarnation))

    def _add(self, url: str, incarnation: str | None = None) -> None:
        if url == self.members.own.url:
            return
        peer = Peer(url, self._link(url), self._clock, self.hello, self._met, incarnation)
        if incarnation is None:
            self.strangers[url] = peer
        else:
            if (before := self.peers.get(incarnation)) is not None:
                self._drop(before)
            self.peers[incarnation] = peer
        if self.running:
            self._loops[peer] = Deferred.fromCoroutine(self._run(peer))

    def _drop(self, peer: Peer) -> None:
        loop = self._loops.pop(peer, None)
        if loop is not None:
            loop.addErrback(lambda failure: failure.trap(CancelledError))
            self._clock.callLater(0, loop.cancel)

    def _met(self, peer: Peer, hello: Hello) -> None:
        """A peer said who it is. Raises PeerError where it must not take part."""
        try:
            self.greeted_by(hello)
        except Rejected as rejection:
            if hello.incarnation == self._own and hello.boot == self.boot:
                # A seed that is this daemon itself.
                self.strangers.pop(peer.url, None)
            raise PeerError(str(rejection)) from None
        if self.strangers.get(peer.url) is peer:
            del self.strangers[peer.url]
            peer.incarnation = hello.incarnation
            known = self.peers.get(hello.incarnation)
            if known is not None and known is not peer:
                self._drop(peer)

    async def _run(self, peer: Peer) -> None:
        while self.running and self._is_known(peer):
            try:
                if peer.incarnation is None:
                    await peer.greet()
                if self.peers.get(peer.incarnation or "") is peer:
                    if peer.agreed == self.members.agreed and peer.may_rest(INTERVAL):
                        await self.exchange.go_on(peer)
                    else:
                        await self.exchange.with_peer(peer)
                    self.change_pusher.push()
                    self.learned()
                    self._say_whether_same(peer)
                    if self.guard.is_ready:
                        await self.go_on()
            except CancelledError:
                return
            except Rejected as rejection:
                self._rejected(peer, rejection)
            except (PeerError, StoreUnavailable):
                pass
            except Exception:
                self._log.failure("exchange failed", url=peer.url)
            await self._settle_own_hints()
            self._say_whether_agreed()
            await peer.pace.rest(INTERVAL * self._jitter())

    async def _settle_own_hints(self) -> None:
        """Whether or not the exchange came to its end: all that was to be heard may have been
        heard.
        """
        self._hint_store.tidy()
        if self.guard.is_ready:
            with suppress(StoreUnavailable):
                await self.merge_hints()

    def _is_known(self, peer: Peer) -> bool:
        """Whether this is still how the daemon at its URL is talked to."""
        return self.peers.get(peer.incarnation or "") is peer or self.strangers.get(peer.url) is peer

    def _say_whether_same(self, peer: Peer) -> None:
        """Log that lists of members differ, once that is more than news on its way, and when they
        do no more.
        """
        before = peer.differed
        peer.differed = before + 1 if peer.agreed != self.members.agreed else 0
        if peer.differed == _LASTING:
            self._log.warn("lists of members differ", url=peer.url, how=", ".join(peer.differs))
        elif before >= _LASTING and not peer.differed:
            self._log.info("lists of members are the same again", url=peer.url)

    def _say_whether_agreed(self) -> None:
        agreed = self.members.agreed if self.agreement.is_on_members() and self.guard.is_ready else ""
        if agreed and agreed != self._agreed:
            self._log.info("peers agree", count=len(self.members.taking_part))
        elif self._agreed and not agreed:
            self._log.warn("peers do not agree, or one of them is silent")
        self._agreed = agreed

    def _rejected(self, peer: Peer, rejection: Rejected) -> None:
        why = str(rejection)
        if self._own not in why or self.members.own.state == "drained":
            return
        if why.startswith(("forgotten", "drained")):
            # An older disk does not know that. Nobody takes anything from this daemon any more.
            self.is_out = True
        self.fence(why)


def _member(hello: Hello) -> Member:
    return Member(incarnation=hello.incarnation, name=hello.name, url=hello.url, features=hello.features)


def session_of(hello: Hello) -> Session:
    """Who speaks in the session that a hello begins."""
    return Session(hello.incarnation, hello.boot, hello.name)
