"""The handler of requests from peers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.forwarding import ForwardedRequests, outcome_of_refusal
from rqdisco.backends.gossip.membership.members import Session, Sessions
from rqdisco.backends.gossip.membership.peer import check_protocol
from rqdisco.backends.gossip.peer_set import PeerSet, session_from_hello
from rqdisco.backends.gossip.replication.hints import HintMerger, HintStore
from rqdisco.backends.gossip.succession import OwnerSuccession
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
    SuccessionProposal,
    decode_message,
    encode_message,
)
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.storage.wal.writer import Journal

_MAX_UNPROVED = 256


class PeerRequestHandler:
    """Answers peers."""

    _log = Logger()

    def __init__(
        self,
        environment: GossipEnvironment,
        peers: PeerSet,
        local: SingleDirectory,
        journal: Journal,
        hint_store: HintStore,
        hint_merger: HintMerger,
        succession: OwnerSuccession,
    ) -> None:
        self._clock = environment.clock
        self._peers = peers
        self._forwarded = ForwardedRequests(
            local, peers.members.current_owner, peers.members.owner_of_name, peers.check, peers.hinted
        )
        self._local = local
        self._journal = journal
        self._hint_store = hint_store
        self._hint_merger = hint_merger
        self._succession = succession
        self._session_name = environment.random_name
        self._now = environment.now
        self._sessions = Sessions()
        self._unproved: OrderedDict[str, Hello] = OrderedDict()
        self._own = peers.members.own.incarnation
        self._verbs: dict[str, tuple[type[msgspec.Struct], Callable[..., Awaitable[msgspec.Struct]]]] = {
            "digest": (Digest, self._handle_digest),
            "push": (Page, self._handle_push),
            "pull": (Pull, self._handle_pull),
            "hints": (Hints, self._handle_hints),
            "barrier": (Barrier, self._handle_barrier),
            "call": (Call, self._handle_call),
            "agree": (SuccessionProposal, self._handle_agree),
            "succeed": (SuccessionProposal, self._handle_succeed),
        }

    def greet(self, body: bytes) -> tuple[str, bytes]:
        try:
            hello = decode_message(body, Hello)
            check_protocol(hello)
            self._peers.check_hello(hello)
        except Malformed as error:
            raise BadMessage(str(error)) from None
        name = self._session_name()
        self._sessions.begin(name, session_from_hello(hello))
        self._unproved[name] = hello
        while len(self._unproved) > _MAX_UNPROVED:
            self._unproved.popitem(last=False)
        return name, encode_message(self._peers.hello())

    async def serve(self, session: str, verb: str, body: bytes) -> bytes:
        sender = self._sessions.touch(session)
        if sender is None:
            raise NotGreeted
        hello = self._unproved.pop(session, None)
        if hello is not None:
            # The first message in a session proves that its hello was no replay.
            self._peers.accept_hello(hello)
        self._authorize(sender)
        if verb not in self._verbs:
            raise BadMessage("no such verb")
        kind, answer = self._verbs[verb]
        try:
            return encode_message(await answer(sender, decode_message(body, kind)))
        except Malformed as error:
            raise BadMessage(str(error)) from None

    def _authorize(self, sender: Session) -> None:
        """Raise Rejected for a sender that must not take part; record contact with all others."""
        if sender.incarnation == self._own:
            raise Rejected(f"two daemons run as incarnation {self._own}")
        member = self._peers.members.get(sender.incarnation)
        if member is None:
            raise NotGreeted
        if member.state not in ("member", "leaving"):
            raise Rejected(f"{member.state}: the IDs of {sender.incarnation} have another owner")
        duplicate = self._sessions.record_activity(sender)
        if duplicate is not None:
            self._log.error("duplicate peer identity", why=duplicate)
        peer = self._peers.peers.get(sender.incarnation)
        if peer is not None:
            peer.mark_contact()

    async def _handle_digest(self, sender: Session, digest: Digest) -> Digest:
        peer = self._peers.peers.get(sender.incarnation)
        if peer is not None:
            peer.mark_digest_received()
            self._peers.exchange.process_digest(peer, digest)
            if self._peers.replication.behind(peer.held):
                peer.timer.trigger()
            self._peers.update_peers()
        return self._peers.exchange.answer_digest(digest, self._sessions.duplicate_reason(sender), self._now())

    async def _handle_push(self, sender: Session, page: Page) -> Held:
        if page.delta.owner != sender.incarnation:
            raise BadMessage("pushed records are not the sender's own")
        try:
            await self._peers.exchange.apply_delta(page.delta)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None
        return Held(held=self._peers.replication.cursor(page.delta.owner))

    async def _handle_pull(self, sender: Session, pull: Pull) -> Page:
        return self._peers.replication.page(pull)

    async def _handle_hints(self, sender: Session, hints: Hints) -> Added:
        if hints.owner != self._own:
            raise Misdirected
        try:
            return Added(upto=await self._hint_merger.add(sender.incarnation, hints.of, hints.hints))
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _handle_barrier(self, sender: Session, barrier: Barrier) -> Hints:
        """Store the owner's current record, so that all later answers are based on it; return
        hints.
        """
        if barrier.owner != sender.incarnation:
            raise BadMessage("a barrier by a daemon that is not the owner")
        delta = Delta(owner=barrier.owner, after=0, upto=0, records=[barrier.record])
        try:
            await self._peers.exchange.apply_delta(delta)
            await self._hint_store.delete_upto(barrier.of, barrier.added)
            # Hints still being written count; later ones are checked against the record just
            # stored.
            while not self._hint_store.all_durable(barrier.owner):
                await self._journal.barrier()
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None
        of, hints = self._hint_store.next_batch(barrier.owner)
        return Hints(owner=barrier.owner, of=of, hints=tuple(hints))

    async def _handle_agree(self, sender: Session, proposal: SuccessionProposal) -> Agreed:
        try:
            return await self._succession.agree(proposal)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _handle_succeed(self, sender: Session, proposal: SuccessionProposal) -> Agreed:
        if proposal.incarnation != sender.incarnation:
            raise BadMessage("handed-over IDs are not the sender's own")
        try:
            return await self._succession.succeed(proposal)
        except StoreUnavailable as error:
            raise BadMessage(error.reason) from None

    async def _handle_call(self, sender: Session, call: Call) -> Outcome:
        """Execute a client's request that the sender received (R2)."""
        if call.owner != self._own:
            raise Misdirected
        left = self._remaining_ms(call)
        if left <= 0:
            return outcome_of_refusal(StoreUnavailable("came too late"))
        calling = Deferred.fromCoroutine(self._forwarded.execute(call))
        try:
            return await calling.addTimeout(left / 1000, self._clock)
        except defer.TimeoutError:
            return outcome_of_refusal(StoreUnavailable("not decided in time"))
        except (RequestRefused, StoreUnavailable) as refusal:
            return outcome_of_refusal(refusal)

    def _remaining_ms(self, call: Call) -> int:
        """Return for how many milliseconds the caller still waits, at least."""
        if call.until is None:
            return call.ms
        now = self._now()
        return min(call.ms, call.until.ms - now.ms) if call.until.boot == now.boot else 0
