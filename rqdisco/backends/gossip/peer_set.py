"""All peers of this daemon: their identities, the exchange loop with each, and the coordination
that an owner needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.barriers import BarrierRunner
from rqdisco.backends.gossip.convergence import ConvergenceMonitor
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members, Session, check_member
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.change_pusher import ChangePusher
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.replication.hints import BATCH_SIZE, HintMerger, HintStore
from rqdisco.backends.gossip.transport.links import PeerError, Rejected
from rqdisco.backends.gossip.transport.messages import FEATURES, HIDDEN_CLAIMS, Hello, Member
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Node, Record

INTERVAL = 1.0
_LASTING_EXCHANGES = 3


class PeerSet(Service):
    """The peers at the `seeds`, and all members learned from them; `run_id` identifies this start
    of the daemon.

    The directory of this daemon uses it as its `Coordinator`.
    """

    _log = Logger()

    def __init__(
        self,
        environment: GossipEnvironment,
        run_id: str,
        members: Members,
        replication: Replication,
        guard: DecisionGuard,
        seeds: Sequence[str],
        *,
        ack_required: bool = False,
    ) -> None:
        self._environment = environment
        self._clock = clock = environment.clock
        self.members = members
        self.replication = replication
        self.guard = guard
        self.run_id = run_id
        self._own = members.own.incarnation
        self._began_with_records = replication.own_cursor > 0
        self._began_with_others = bool(members.others)
        self.peers: dict[str, Peer] = {}
        self.unidentified: dict[str, Peer] = {}
        self._seeds = seeds
        self._agreed_on = ""
        self.is_excluded = False
        self._loops: dict[Peer, Deferred[None]] = {}
        self.change_pusher = ChangePusher(clock, replication, self._own, self.active_peers, required=ack_required)
        self.convergence = ConvergenceMonitor(
            clock, members, replication, self.active_peers, lambda: not self.unidentified
        )
        self._resume_successions: Callable[[], Awaitable[None]]
        self.exchange: Exchange
        self.barriers: BarrierRunner
        self._hint_store: HintStore
        self._hint_merger: HintMerger

    def attach(
        self,
        exchange: Exchange,
        hint_store: HintStore,
        hint_merger: HintMerger,
        resume_successions: Callable[[], Awaitable[None]],
    ) -> None:
        """Set the parts that depend on the directory, which in turn depends on this.
        `resume_successions` is called after each exchange once this daemon is ready.
        """
        self._resume_successions = resume_successions
        self._hint_store, self._hint_merger = hint_store, hint_merger
        self.exchange = exchange
        self.barriers = BarrierRunner(self.members, self.peers, hint_merger)

    def startService(self) -> None:
        super().startService()
        for url in self._seeds:
            self._add_peer(url)
        self.update_peers()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.change_pusher.stop()
        loops = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        return DeferredList(loops, consumeErrors=True).addCallback(lambda _: None)

    # The Coordinator interface of the directory.

    def check(self, record: Record) -> None:
        """Raise NotReady where this daemon may not decide about one of its own IDs now.

        It may not decide while fenced or succeeded, nor before it has reached all members since its
        start (R8), nor before its own answers of that time are on the list. The barrier (R5)
        collects what others answered.
        """
        self.guard.check(record)
        self._merge_hints_of(record.id)

    def hinted(self, discovery_id: str) -> Sequence[Node]:
        return self._hint_store.nodes(discovery_id)

    def hide_claims(self) -> bool:
        # A member never contacted counts as hiding claims: what is shown once is never
        # repeated.
        return all(not each.features or HIDDEN_CLAIMS in each.features for each in self.members.others)

    def repeat_claims(self) -> bool:
        return all(HIDDEN_CLAIMS in each.features for each in self.members.others)

    async def merge_hints(self) -> None:
        """Add all registrations answered here before this daemon was ready, in batches, yielding in
        between. Raises StoreUnavailable.
        """
        ids = self._hint_store.ids(self._own)
        for start in range(0, len(ids), BATCH_SIZE):
            if start:
                await deferLater(self._clock, 0)
            for discovery_id in ids[start : start + BATCH_SIZE]:
                self._merge_hints_of(discovery_id)

    def _merge_hints_of(self, discovery_id: str) -> None:
        merging = self._hint_merger.merge_own(self._hint_store, self._own, discovery_id)
        if merging is not None:
            # A failed write undoes all that was built on it; the merge is retried later.
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
        await self.barriers.run(record)

    # For the request handler and the routes to owners.

    def active_peers(self) -> list[Peer]:
        """Return the peers of active members, up or not."""
        return [self.peers[each.incarnation] for each in self.members.others if each.incarnation in self.peers]

    def is_up(self, incarnation: str) -> bool:
        """Report whether a member answered the last request."""
        return incarnation in self.peers and self.peers[incarnation].is_up

    def contact(self, incarnation: str) -> float | None:
        """Return seconds since the last contact with a member since this daemon started, None if
        there was none.
        """
        peer = self.peers.get(incarnation)
        return (
            None if peer is None or peer.contacted_at is None else max(0.0, self._clock.seconds() - peer.contacted_at)
        )

    @property
    def lacks_members(self) -> bool:
        """Report whether seeds are configured and no member was ever known: the disk may predate
        the cluster.
        """
        return self._began_with_records and bool(self.unidentified) and not self.members.others

    @property
    def awaited_sources(self) -> list[str]:
        """The URLs whose records are still missing, on a daemon that started without peers'
        records.
        """
        if self._began_with_others or any(peer.is_caught_up for peer in self.peers.values()):
            return []
        coming = [url for url, peer in self.unidentified.items() if not peer.was_attempted]
        return [*coming, *(peer.url for peer in self.peers.values() if peer.is_up)]

    def hello(self) -> Hello:
        """Describe this daemon."""
        own = self.members.own
        return Hello(
            name=own.name,
            incarnation=own.incarnation,
            run_id=self.run_id,
            url=own.url,
            features=FEATURES,
            members=self.members.all,
            wall_ms=self._environment.wall_ms(),
        )

    def check_hello(self, hello: Hello) -> None:
        """Raise Rejected for a daemon that must not take part, Malformed. Changes nothing, since
        somebody may replay an old hello of any daemon, this one included.
        """
        check_member(_member_from_hello(hello))
        if hello.incarnation == self._own and hello.run_id == self.run_id:
            raise Rejected("this is the daemon itself")
        known = self.members.get(hello.incarnation)
        if known is not None and known.state in ("forgotten", "drained"):
            raise Rejected(f"{known.state}: the IDs of {hello.incarnation} have another owner")

    def accept_hello(self, hello: Hello) -> None:
        """Process the hello of a daemon proved alive. Raises Rejected where it must not take part,
        Malformed.
        """
        self.check_hello(hello)
        member = _member_from_hello(hello)
        if hello.incarnation == self._own:
            self.fence(f"two daemons run as incarnation {self._own}")
            raise Rejected(f"two daemons run as incarnation {self._own}")
        self.exchange.write_metadata(self.members.learn(hello.members))
        self.exchange.write_metadata(self.members.learn([member], first_hand=hello.incarnation))
        self.update_peers()

    def fence(self, why: str) -> None:
        """Stop all decisions until a restart."""
        if self.guard.fenced is None:
            self._log.error("daemon fenced", why=why)
        self.guard.fenced = why

    def update_peers(self) -> None:
        """Keep one peer per member, and fence this daemon if others have forgotten it."""
        if self.members.own.state == "forgotten" and self.guard.objection is not None:
            self.fence(self.guard.objection)
        for member in self.members.others:
            peer = self.peers.get(member.incarnation)
            if peer is None or peer.url != member.url:
                self._add_peer(member.url, member.incarnation)
        urls = {each.url for each in self.members.all}
        for url in [url for url in self.unidentified if url in urls]:
            self._drop(self.unidentified.pop(url))
        for incarnation in list(self.peers):
            if incarnation not in {each.incarnation for each in self.members.others}:
                self._drop(self.peers.pop(incarnation))

    def _add_peer(self, url: str, incarnation: str | None = None) -> None:
        if url == self.members.own.url:
            return
        peer = Peer(url, self._environment.link(url), self._clock, self.hello, self._hello_received, incarnation)
        if incarnation is None:
            self.unidentified[url] = peer
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

    def _hello_received(self, peer: Peer, hello: Hello) -> None:
        """Identify a peer by its hello. Raises PeerError if it must not take part."""
        try:
            self.accept_hello(hello)
        except Rejected as rejection:
            if hello.incarnation == self._own and hello.run_id == self.run_id:
                # A seed may be this daemon itself.
                self.unidentified.pop(peer.url, None)
            raise PeerError(str(rejection)) from None
        if self.unidentified.get(peer.url) is peer:
            del self.unidentified[peer.url]
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
                    if peer.fingerprint == self.members.fingerprint and peer.may_skip_exchange(INTERVAL):
                        await self.exchange.follow_up(peer)
                    else:
                        await self.exchange.sync(peer)
                    self.change_pusher.push()
                    self.update_peers()
                    self._log_differences(peer)
                    if self.guard.is_ready:
                        await self._resume_successions()
            except CancelledError:
                return
            except Rejected as rejection:
                self._handle_rejection(peer, rejection)
            except (PeerError, StoreUnavailable):
                pass
            except Exception:
                self._log.failure("exchange failed", url=peer.url)
            await self._merge_own_hints()
            self._log_agreement()
            await peer.timer.wait(INTERVAL * self._environment.jitter())

    async def _merge_own_hints(self) -> None:
        """Run after every exchange, failed ones included: it may have been the last that this
        daemon needed to become ready.
        """
        self._hint_store.retry_deletions()
        if self.guard.is_ready:
            with suppress(StoreUnavailable):
                await self.merge_hints()

    def _is_known(self, peer: Peer) -> bool:
        """Report whether a peer is still the current way to the daemon at its URL."""
        return self.peers.get(peer.incarnation or "") is peer or self.unidentified.get(peer.url) is peer

    def _log_differences(self, peer: Peer) -> None:
        """Log member lists that differ for longer than changes take to spread, and when they match
        again.
        """
        before = peer.differing_exchanges
        peer.differing_exchanges = before + 1 if peer.fingerprint != self.members.fingerprint else 0
        if peer.differing_exchanges == _LASTING_EXCHANGES:
            self._log.warn("lists of members differ", url=peer.url, how=", ".join(peer.differences))
        elif before >= _LASTING_EXCHANGES and not peer.differing_exchanges:
            self._log.info("lists of members are the same again", url=peer.url)

    def _log_agreement(self) -> None:
        agreed = self.members.fingerprint if self.convergence.members_agree() and self.guard.is_ready else ""
        if agreed and agreed != self._agreed_on:
            self._log.info("peers agree", count=len(self.members.active))
        elif self._agreed_on and not agreed:
            self._log.warn("peers do not agree, or one is unreachable")
        self._agreed_on = agreed

    def _handle_rejection(self, peer: Peer, rejection: Rejected) -> None:
        why = str(rejection)
        if self._own not in why or self.members.own.state == "drained":
            return
        if why.startswith(("forgotten", "drained")):
            # A rolled-back disk lacks this. Peers accept nothing from this daemon any more.
            self.is_excluded = True
        self.fence(why)


def _member_from_hello(hello: Hello) -> Member:
    return Member(incarnation=hello.incarnation, name=hello.name, url=hello.url, features=hello.features)


def session_from_hello(hello: Hello) -> Session:
    """Return the session that a hello begins."""
    return Session(hello.incarnation, hello.run_id, hello.name)
