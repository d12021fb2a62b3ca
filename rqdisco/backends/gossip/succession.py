"""Give the IDs of a daemon that is gone for good a new owner (R7).

`forget`: an operator declares a daemon lost; this one takes over its IDs once every other member
has agreed. `drain`: this daemon hands its IDs over to a peer before it is removed. `agree` and
`succeed` answer the peers that do so.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.lost_member import find_lost
from rqdisco.backends.gossip.membership.members import member_metadata
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.transport.links import BadMessage, PeerError
from rqdisco.backends.gossip.transport.messages import Agreed, Member, SuccessionProposal
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import records
from rqdisco.core.errors import NoSuccessor
from rqdisco.storage.memory import Store, metadata_change
from rqdisco.storage.wal.writer import Journal

_REQUEST_SECONDS = 5.0
_DRAIN_SECONDS = 60.0


class OwnerSuccession:
    """Forgets lost daemons, drains this one, and takes over what peers hand over.

    `is_deciding` reports whether any grant of this daemon is pending.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        peers: PeerSet,
        exchange: Exchange,
        local: SingleDirectory,
        store: Store,
        journal: Journal,
        is_deciding: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._peers = peers
        self._members = peers.members
        self._exchange = exchange
        self._local = local
        self._store = store
        self._journal = journal
        self._is_deciding = is_deciding
        self._own = self._members.own.incarnation
        self._taken_over: set[str] = set()

    async def forget(self, name: str) -> int:
        """Make this daemon the owner of the IDs of a lost one, which `name` stands for as in
        `find_lost`; return their number.

        Every other member must answer and agree, except those declared lost here or elsewhere:
        where two are lost, forgetting each in turn, and then the first again, forgets both. A
        repeated call resumes an interrupted one. Raises NoSuccessor, StoreUnavailable.
        """
        self._local.check_frozen()
        lost = self.find_lost(name)
        for each in self._lost_incarnations(lost):
            if not each.declared_lost:
                await self._persist(replace(each, declared_lost=True))
        lost = self._current(lost)
        if lost.state != "forgotten":
            await self._persist(replace(lost, state="leaving", successor=lost.successor or self._own))
            lost = self._current(lost)
            # The chosen successor may have been lost as well, and have a successor.
            successor_id = self._members.current_owner(lost.successor or "")
            if successor_id != self._own:
                raise NoSuccessor(
                    f"{self._members.label(lost)} is being forgotten already, by {self._name(successor_id)}:"
                    " repeat the command there"
                )
            await self._obtain_agreement(lost)
            await self._persist(replace(lost, state="forgotten"))
        return await self._take_over(lost.incarnation, is_lost=True)

    def find_lost(self, name: str) -> Member:
        """Return the member to forget, given by name or incarnation. Raises NoSuccessor."""
        return find_lost(self._members, name, self._peers.is_up)

    async def count_ids(self, incarnation: str) -> int:
        """Return how many IDs a member owns, as far as this daemon knows."""
        count = position = 0
        while True:
            keys, position = self._peers.replication.keys_of_owner(incarnation, position)
            count += len(keys)
            if not position:
                return count
            await deferLater(self._clock, 0)

    async def drain(self, to: str | None = None) -> str:
        """Hand all IDs of this daemon to another, stop deciding, and return the other's name.

        Raises NoSuccessor, StoreUnavailable.
        """
        self._local.check_frozen()
        own = self._members.own
        if own.state == "drained":
            return self._name(own.successor)
        successor = self._choose_successor(own, to)
        if not self._peers.guard.is_ready or self._peers.guard.fenced is not None:
            raise NoSuccessor("this daemon may not decide about its IDs now")
        await self._persist(replace(own, state="leaving", successor=successor.incarnation))
        self._peers.guard.successor = successor.name
        await self._await_decisions()
        peer = self._peers.peers[successor.incarnation]
        try:
            await self._exchange.sync(peer)
            await self._hand_over_hints()
            proposal = SuccessionProposal(
                incarnation=self._own,
                successor=successor.incarnation,
                upto=self._peers.replication.own_cursor,
            )
            await peer.request("succeed", proposal, Agreed, _REQUEST_SECONDS)
        except PeerError as error:
            raise NoSuccessor(f"{successor.name} cannot take over yet, try again: {error}") from None
        await self._persist(replace(self._members.own, state="drained"))
        return successor.name

    async def _hand_over_hints(self) -> None:
        """Deliver all hints, since peers accept none from a drained daemon. Raises NoSuccessor,
        PeerError's kinds, StoreUnavailable.
        """
        await self._peers.merge_hints()
        await self._journal.barrier()
        for peer in self._peers.active_peers():
            if peer.is_up:
                await self._exchange.hand_over_hints(peer)
        if owners := self._exchange.hinted_owners:
            names = ", ".join(self._name(owner) for owner in owners)
            raise NoSuccessor(f"registrations wait here for {names}: try again when it is back, or forgotten")

    async def agree(self, proposal: SuccessionProposal) -> Agreed:
        """Answer a proposal that a member is gone for good. Raises StoreUnavailable."""
        self._local.check_frozen()
        member = self._members.get(proposal.incarnation)
        if member is None:
            raise BadMessage("no such member")
        proposed = replace(member, state="leaving", successor=proposal.successor)
        if metadata := self._members.learn([proposed]):
            await self._journal.append(*map(metadata_change, metadata))
        else:
            await self._journal.barrier()
        successor = self._current(member).successor
        return Agreed(successor=successor or "", held=self._peers.replication.cursor(member.incarnation))

    async def succeed(self, proposal: SuccessionProposal) -> Agreed:
        """Become the owner of IDs that their owner hands over. Raises StoreUnavailable,
        BadMessage.
        """
        self._local.check_frozen()
        member = self._members.get(proposal.incarnation)
        peer = self._peers.peers.get(proposal.incarnation)
        if peer is not None:
            # The sender may be the last to hold decisions of another member, which is down.
            await self._exchange.refresh_and_catch_up(peer)
        is_behind = peer is not None and bool(self._peers.replication.behind(peer.held))
        held = self._peers.replication.cursor(proposal.incarnation)
        if member is None or proposal.successor != self._own:
            raise BadMessage("this daemon is not the chosen successor")
        if is_behind or held < proposal.upto:
            raise BadMessage("not all records are here yet")
        if not self._peers.guard.is_ready:
            raise BadMessage("not ready yet")
        await self._persist(replace(member, state="drained", successor=self._own))
        await self._take_over(proposal.incarnation, is_lost=False)
        return Agreed(successor=self._own, held=held)

    async def resume(self) -> None:
        """Finish takeovers that an earlier start, or an older disk, left incomplete."""
        for member in self._members.all:
            is_successor = member.state in ("forgotten", "drained") and member.successor == self._own
            if is_successor and member.incarnation not in self._taken_over:
                self._taken_over.add(member.incarnation)
                await self._take_over(member.incarnation, is_lost=member.state == "forgotten")

    def _lost_incarnations(self, lost: Member) -> list[Member]:
        """Return the incarnations lost along with `lost`, and itself: all unreachable ones of its
        name if a daemon of that name answers, since that one has lost its disk more than once.
        """
        named = self._members.named(lost.name)
        unreachable = [
            each for each in named if not self._peers.is_up(each.incarnation) and each.incarnation != self._own
        ]
        if len(unreachable) < len(named):
            return unreachable
        return [each for each in unreachable if each.incarnation == lost.incarnation]

    async def _obtain_agreement(self, lost: Member) -> None:
        """Obtain from every other member its agreement and its records of the lost one. Raises
        NoSuccessor.
        """
        members = [each for each in self._members.others if not self._is_declared_lost(each)]
        proposal = SuccessionProposal(incarnation=lost.incarnation, successor=lost.successor or self._own)
        for member in members:
            peer = self._peers.peers.get(member.incarnation)
            if peer is None or not peer.is_up:
                raise NoSuccessor(f"{self._members.label(member)} must agree, and does not answer")
            try:
                agreed = await peer.request("agree", proposal, Agreed, _REQUEST_SECONDS)
                if agreed.successor != proposal.successor:
                    raise NoSuccessor(
                        f"{lost.name} is being forgotten by {self._name(agreed.successor)}: repeat the command there"
                    )
                await self._exchange.pull_all(peer, lost.incarnation)
            except PeerError as error:
                raise NoSuccessor(f"{member.name} must agree, and does not answer: {error}") from None
            if agreed.held > self._peers.replication.cursor(lost.incarnation):
                raise NoSuccessor(f"{member.name} has records of {lost.name} that are not here yet, try again")
        agreeing = {each.incarnation for each in members}
        if any(each.incarnation not in agreeing and not self._is_declared_lost(each) for each in self._members.others):
            raise NoSuccessor("the members changed meanwhile, try again")

    def _is_declared_lost(self, member: Member) -> bool:
        return member.declared_lost and not self._peers.is_up(member.incarnation)

    async def _take_over(self, incarnation: str, *, is_lost: bool) -> int:
        count = position = 0
        while True:
            keys, position = self._peers.replication.keys_of_owner(incarnation, position)
            changes = []
            for key in keys:
                record = self._store.newest(key.decode())
                if record is not None and record.owner == incarnation:
                    record = record if is_lost else records.with_grant_answered(record)
                    changes.append(self._store.put(self._local.takeover.inherit(record, lost=is_lost)))
            if changes:
                await self._journal.append(*changes)
            count += len(changes)
            if not position:
                break
            await deferLater(self._clock, 0)
        if count:
            self._log.info("took over IDs", of=incarnation, count=count)
        return count

    def _choose_successor(self, own: Member, to: str | None) -> Member:
        if own.successor is not None:
            # The chosen successor may have taken over already, and handed over in turn.
            successor_id = self._members.current_owner(own.successor)
            chosen = [each for each in self._members.others if each.incarnation == successor_id]
        else:
            chosen = [each for each in self._members.others if to in (None, each.name) and each.state == "member"]
        for each in chosen:
            if self._peers.is_up(each.incarnation):
                return each
        raise NoSuccessor("no peer that could take over answers")

    async def _await_decisions(self) -> None:
        waited = 0.0
        while self._is_deciding() and waited < _DRAIN_SECONDS:
            await deferLater(self._clock, 0.05)
            waited += 0.05
        if self._is_deciding():
            raise NoSuccessor("decisions are still in progress, try again")
        await self._journal.barrier()

    async def _persist(self, member: Member) -> None:
        # Publish only what is durable.
        await self._journal.append(metadata_change(member_metadata(member)))
        self._members.put(member)

    def _current(self, member: Member) -> Member:
        return self._members.get(member.incarnation) or member

    def _name(self, incarnation: str | None) -> str:
        member = None if incarnation is None else self._members.get(incarnation)
        return str(incarnation) if member is None else member.name
