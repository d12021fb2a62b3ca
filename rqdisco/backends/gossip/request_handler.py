"""What this daemon answers its peers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.forwarding import ForwardedCalls, outcome_of_refusal
from rqdisco.backends.gossip.membership.members import Session, Sessions
from rqdisco.backends.gossip.membership.peer import check_protocol
from rqdisco.backends.gossip.peer_set import PeerSet, session_of
from rqdisco.backends.gossip.replication.hints import HintMerger, HintStore
from rqdisco.backends.gossip.succession import Successions
from rqdisco.backends.gossip.transport.links import BadMessage, Misdirected, NotGreeted, Rejected
from rqdisco.backends.gossip.transport.messages import (
    Added,
    Agreed,
    Barrier,
    Call,
    Delta,
    Digest,
    Held,
    Hello,
    Hints,
    Outcome,
    Page,
    Pull,
    Succession,
    decode_message,
    encode_message,
)
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.core.records import Moment
from rqdisco.storage.wal.writer import Journal

_MOST_UNPROVED = 256


class PeerRequestHandler:
    """The handler of what peers say. `session_name` gives names that nobody can guess, `now`
    monotonic moments.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        peers: PeerSet,
        local: SingleDirectory,
        journal: Journal,
        hint_store: HintStore,
        taker: HintMerger,
        successions: Successions,
        session_name: Callable[[], str],
        now: Callable[[], Moment],
    ) -> None:
        self._clock = clock
        self._peers = peers
        self._caller = ForwardedCalls(local, peers.members.current_owner, peers.check, peers.hinted)
        self._local = local
        self._journal = journal
        self._hint_store = hint_store
        self._taker = taker
        self._successions = successions
        self._session_name = session_name
        self._now = now
        self._sessions = Sessions()
        self._unproved: OrderedDict[str, Hello] = OrderedDict()
        self._own = peers.members.own.incarnation
        self._verbs: dict[str, Any] = {
            "digest": (Digest, self._digest),
            "push": (Page, self._push),
            "pull": (Pull, self._pull),
            "hints": (Hints, self._hints),
            "barrier": (Barrier, self._barrier),
            "call": (Call, self._call),
            "agree": (Succession, self._agree),
            "succeed": (Succession, self._succeed),
        }

    def greet(self, hello: bytes) -> tuple[str, bytes]:
        try:
            told = decode_message(hello, Hello)
            check_protocol(told)
            self._peers.check_greeting(told)
        except Malformed as error:
            raise BadMessage(str(error)) from None
        name = self._session_name()
        self._sessions.begin(name, session_of(told))
        self._unproved[name] = told
        while len(self._unproved) > _MOST_UNPROVED:
            self._unproved.popitem(last=False)
        return name, encode_message(self._peers.hello())

    async def serve(self, session: str, verb: str, body: bytes) -> bytes:
        speaker = self._sessions.heard(session)
        if speaker is None:
            raise NotGreeted
        told = self._unproved.pop(session, None)
        if told is not None:
            # The first thing that is said in a session proves that its hello was no old one,
            # repeated by somebody.
            self._peers.greeted_by(told)
        self._check(speaker)
        if verb not in self._verbs:
            raise BadMessage("no such verb")
        kind, answer = self._verbs[verb]
        try:
            return encode_message(await answer(speaker, decode_message(body, kind)))
        except Malformed as error:
            raise BadMessage(str(error)) from None

    def _check(self, speaker: Session) -> None:
        """Raise Rejected for who must not take part; note that the others are alive."""
        if speaker.incarnation == self._own:
            raise Rejected(f"two daemons run as incarnation {self._own}")
        member = self._peers.members.get(speaker.incarnation)
        if member is None:
            raise NotGreeted
        if member.state not in ("member", "leaving"):
            raise Rejected(f"{member.state}: the IDs of {speaker.incarnation} have another home")
        duplicate = self._sessions.note(speaker)
        if duplicate is not None:
            self._log.error("peers cannot be told apart", why=duplicate)
        peer = self._peers.peers.get(speaker.incarnation)
        if peer is not None:
            peer.hear()

    async def _digest(self, speaker: Session, digest: Digest) -> Digest:
        peer = self._peers.peers.get(speaker.incarnation)
        if peer is not None:
            peer.receive_digest()
            self._peers.exchange.hear(peer, digest)
            if self._peers.replication.behind(peer.held):
                peer.pace.hurry()
            self._peers.learned()
        return self._peers.exchange.answer(digest, self._sessions.duplicate(speaker), self._now())

    async def _push(self, speaker: Session, page: Page) -> Held:
        if page.delta.owner != speaker.incarnation:
            raise BadMessage("pushes what is not its own")
        try:
            await self._peers.exchange.take(page.delta)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None
        return Held(held=self._peers.replication.cursor(page.delta.owner))

    async def _pull(self, speaker: Session, pull: Pull) -> Page:
        return self._peers.replication.page(pull)

    async def _hints(self, speaker: Session, hints: Hints) -> Added:
        if hints.owner != self._own:
            raise Misdirected
        try:
            return Added(upto=await self._taker.add(speaker.incarnation, hints.of, hints.hints))
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _barrier(self, speaker: Session, barrier: Barrier) -> Hints:
        """Whatever is answered here from now on is answered from the home's current record."""
        if barrier.owner != speaker.incarnation:
            raise BadMessage("a barrier for what is not its own")
        delta = Delta(owner=barrier.owner, after=0, upto=0, records=[barrier.record])
        try:
            await self._peers.exchange.take(delta)
            await self._hint_store.forget(barrier.of, barrier.added)
            # Hints that are on their way count; those that come later are judged by the record just
            # taken.
            while not self._hint_store.all_durable(barrier.owner):
                await self._journal.barrier()
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None
        of, hints = self._hint_store.oldest(barrier.owner)
        return Hints(owner=barrier.owner, of=of, hints=tuple(hints))

    async def _agree(self, speaker: Session, asked: Succession) -> Agreed:
        try:
            return await self._successions.agree(asked)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _succeed(self, speaker: Session, asked: Succession) -> Agreed:
        if asked.incarnation != speaker.incarnation:
            raise BadMessage("hands over what is not its own")
        try:
            return await self._successions.succeed(asked)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _call(self, speaker: Session, call: Call) -> Outcome:
        """A client's request that came in there (R2)."""
        if call.owner != self._own:
            raise Misdirected
        left = self._left(call)
        if left <= 0:
            return outcome_of_refusal(StoreUnavailable("came too late"))
        calling = Deferred.fromCoroutine(self._caller.carry_out(call))
        try:
            return await calling.addTimeout(left / 1000, self._clock)
        except defer.TimeoutError:
            return outcome_of_refusal(StoreUnavailable("not decided in time"))
        except (RequestRefused, StoreUnavailable) as refusal:
            return outcome_of_refusal(refusal)

    def _left(self, call: Call) -> int:
        """For how many milliseconds its caller still waits, at least."""
        if call.until is None:
            return call.ms
        now = self._now()
        return min(call.ms, call.until.ms - now.ms) if call.until.boot == now.boot else 0
