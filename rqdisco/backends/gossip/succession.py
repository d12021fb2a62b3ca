"""A new home for the IDs of a daemon that is lost, or that hands them over before it is taken away
(R7).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.gossip.membership.members import member_metadata
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.exchange import Exchange
from rqdisco.backends.gossip.transport.links import BadMessage, PeerError
from rqdisco.backends.gossip.transport.messages import Agreed, Member, Succession
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import records
from rqdisco.core.errors import CannotSucceed
from rqdisco.storage.memory import Store, metadata_change
from rqdisco.storage.wal.writer import Journal

_ASK_SECONDS = 5.0
_DRAIN_SECONDS = 60.0


class Successions:
    """Forgets lost daemons, takes over what is handed over, and hands over this daemon's own."""

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
        self._exchange = exchange
        self._local = local
        self._store = store
        self._journal = journal
        self._is_deciding = is_deciding
        self._own = peers.members.own.incarnation
        self._taken_over: set[str] = set()
        # Of whom an operator said, here and since the start, that they are lost.

    async def forget(self, name: str) -> int:
        """Make this daemon the home of the IDs of one that is lost, by its name or its incarnation;
        return how many.

        Every other member must answer and agree, but for those that were called lost as well, here
        or elsewhere: where two are lost, asking for both in turn, and for the first again, forgets
        both. Asked again, it goes on where it was interrupted. Raises CannotSucceed,
        StoreUnavailable.
        """
        lost = self._lost(name)
        for each in self._lost_with(lost):
            if not each.given_up:
                await self._note(replace(each, given_up=True))
        lost = self._now(lost)
        if lost.state != "forgotten":
            await self._note(replace(lost, state="leaving", successor=lost.successor or self._own))
            lost = self._now(lost)
            # Whoever was to have its IDs may have been lost as well, and have a successor.
            heir = self._peers.members.current_owner(lost.successor or "")
            if heir != self._own:
                raise CannotSucceed(f"{name} is being forgotten already, by {self._name(heir)}: ask there")
            await self._have_all_agree(lost)
            await self._note(replace(lost, state="forgotten"))
        return await self._take_over(lost.incarnation, is_lost=True)

    async def drain(self, to: str | None = None) -> str:
        """Hand all IDs of this daemon to another, whose name is returned, and decide nothing any
        more.

        Raises CannotSucceed, StoreUnavailable.
        """
        own = self._peers.members.own
        if own.state == "drained":
            return self._name(own.successor)
        successor = self._heir(own, to)
        if not self._peers.guard.is_ready or self._peers.guard.fenced is not None:
            raise CannotSucceed("this daemon may not decide about its IDs now")
        await self._note(replace(own, state="leaving", successor=successor.incarnation))
        self._peers.guard.successor = successor.name
        await self._finish_decisions()
        peer = self._peers.peers[successor.incarnation]
        try:
            await self._exchange.with_peer(peer)
            await self._hand_over_hints()
            asked = Succession(
                incarnation=self._own,
                successor=successor.incarnation,
                upto=self._peers.replication.own_cursor,
            )
            await peer.ask("succeed", asked, Agreed, _ASK_SECONDS)
        except PeerError as error:
            raise CannotSucceed(f"{successor.name} does not take them over yet, ask again: {error}") from None
        await self._note(replace(self._peers.members.own, state="drained"))
        return successor.name

    async def _hand_over_hints(self) -> None:
        """Nobody takes any from a daemon that is drained. Raises CannotSucceed, PeerError's kinds,
        StoreUnavailable.
        """
        await self._peers.merge_hints()
        await self._journal.barrier()
        for peer in self._peers.taking_part():
            if peer.is_up:
                await self._exchange.hand_over_hints(peer)
        if owners := self._exchange.hinted_owners:
            names = ", ".join(self._name(owner) for owner in owners)
            raise CannotSucceed(f"registrations wait here for {names}: ask again when that is back, or forgotten")

    async def agree(self, asked: Succession) -> Agreed:
        """Answer who proposes that a member is gone for good. Raises StoreUnavailable."""
        member = self._peers.members.get(asked.incarnation)
        if member is None:
            raise BadMessage("no such member")
        told = replace(member, state="leaving", successor=asked.successor)
        notes = self._peers.members.learn([told])
        if notes:
            await self._journal.append(*map(metadata_change, notes))
        else:
            await self._journal.barrier()
        now = self._now(member)
        return Agreed(successor=now.successor or "", held=self._peers.replication.cursor(member.incarnation))

    async def succeed(self, asked: Succession) -> Agreed:
        """Become the home of IDs that their home hands over. Raises StoreUnavailable,
        BadMessage.
        """
        member = self._peers.members.get(asked.incarnation)
        peer = self._peers.peers.get(asked.incarnation)
        if peer is not None:
            # It may be the last that has what another member, which is down, decided.
            await self._exchange.catch_up_with(peer)
        is_behind = peer is not None and bool(self._peers.replication.behind(peer.held))
        held = self._peers.replication.cursor(asked.incarnation)
        if member is None or asked.successor != self._own:
            raise BadMessage("not to be succeeded by this daemon")
        if is_behind or held < asked.upto:
            raise BadMessage("not all of it is here yet")
        if not self._peers.guard.is_ready:
            raise BadMessage("not established yet")
        await self._note(replace(member, state="drained", successor=self._own))
        await self._take_over(asked.incarnation, is_lost=False)
        return Agreed(successor=self._own, held=held)

    async def go_on(self) -> None:
        """Take over what an earlier start, or an older disk, did not come to the end of."""
        for member in self._peers.members.all:
            is_own = member.state in ("forgotten", "drained") and member.successor == self._own
            if is_own and member.incarnation not in self._taken_over:
                self._taken_over.add(member.incarnation)
                await self._take_over(member.incarnation, is_lost=member.state == "forgotten")

    def _lost(self, name: str) -> Member:
        known = [
            each
            for each in self._peers.members.all
            if name in (each.name, each.incarnation) and each.incarnation != self._own
        ]
        unreachable = [each for each in known if not self._peers.is_up(each.incarnation)]
        unfinished = [each for each in unreachable if each.state in ("member", "leaving")] or [
            each
            for each in unreachable
            if each.state == "forgotten" and self._peers.members.current_owner(each.incarnation) == self._own
        ]
        if not known:
            raise CannotSucceed(f"there is no peer called {name}")
        if not unfinished:
            raise CannotSucceed(f"{name} answers, or is gone already; one that answers can be drained")
        # One that was begun is brought to its end.
        lost = next((each for each in unfinished if each.state == "leaving"), unfinished[0])
        is_named_so = lost.name == self._peers.members.own.name
        # One that was drained is not waited for.
        may_come_back = [each for each in known if each.state != "drained"]
        is_any_up = any(each not in unreachable for each in may_come_back)
        if lost.state == "member" and len(may_come_back) > 1 and not (is_any_up or is_named_so):
            which = ", ".join(each.incarnation for each in unfinished)
            raise CannotSucceed(
                f"no daemon called {name} answers, and the one that came back without its disk may only be cut off:"
                f" ask again when it answers, or say who is lost, of {which}"
            )
        return lost

    def _lost_with(self, lost: Member) -> list[Member]:
        """All that are lost if one is: where a daemon of its name answers, that one lost its disk
        more than once.
        """
        named = self._peers.members.named(lost.name)
        unreachable = [
            each for each in named if not self._peers.is_up(each.incarnation) and each.incarnation != self._own
        ]
        return (
            unreachable
            if len(unreachable) < len(named)
            else [each for each in unreachable if each.incarnation == lost.incarnation]
        )

    async def _have_all_agree(self, lost: Member) -> None:
        members = [each for each in self._peers.members.others if not self._is_given_up(each)]
        asked = Succession(incarnation=lost.incarnation, successor=lost.successor or self._own)
        for member in members:
            peer = self._peers.peers.get(member.incarnation)
            if peer is None or not peer.is_up:
                raise CannotSucceed(f"{member.name} must agree, and does not answer")
            try:
                agreed = await peer.ask("agree", asked, Agreed, _ASK_SECONDS)
                if agreed.successor != asked.successor:
                    raise CannotSucceed(f"{lost.name} is being forgotten by {self._name(agreed.successor)}: ask there")
                await self._exchange.pull_all(peer, lost.incarnation)
            except PeerError as error:
                raise CannotSucceed(f"{member.name} must agree, and does not answer: {error}") from None
            if agreed.held > self._peers.replication.cursor(lost.incarnation):
                raise CannotSucceed(f"{member.name} knows more of {lost.name} than could be had now, ask again")
        asked_for = {each.incarnation for each in members}
        if any(
            each.incarnation not in asked_for and not self._is_given_up(each) for each in self._peers.members.others
        ):
            raise CannotSucceed("the members changed meanwhile, ask again")

    def _is_given_up(self, member: Member) -> bool:
        return member.given_up and not self._peers.is_up(member.incarnation)

    async def _take_over(self, incarnation: str, *, is_lost: bool) -> int:
        count = place = 0
        while True:
            keys, place = self._peers.replication.of_owner(incarnation, place)
            changes = []
            for key in keys:
                record = self._store.newest(key.decode())
                if record is not None and record.owner == incarnation:
                    record = record if is_lost else records.with_grant_answered(record)
                    changes.append(self._store.put(self._local.takeover.inherit(record, lost=is_lost)))
            if changes:
                await self._journal.append(*changes)
            count += len(changes)
            if not place:
                break
            await deferLater(self._clock, 0)
        if count:
            self._log.info("took over IDs", of=incarnation, count=count)
        return count

    def _heir(self, own: Member, to: str | None) -> Member:
        if own.successor is not None:
            # Whoever was chosen may have taken over already, and handed over in turn.
            heir = self._peers.members.current_owner(own.successor)
            chosen = [each for each in self._peers.members.others if each.incarnation == heir]
        else:
            chosen = [each for each in self._peers.members.others if to in (None, each.name) and each.state == "member"]
        for each in chosen:
            if self._peers.is_up(each.incarnation):
                return each
        raise CannotSucceed("no peer that could take over answers")

    async def _finish_decisions(self) -> None:
        waited = 0.0
        while self._is_deciding() and waited < _DRAIN_SECONDS:
            await deferLater(self._clock, 0.05)
            waited += 0.05
        if self._is_deciding():
            raise CannotSucceed("decisions are still on their way, ask again")
        await self._journal.barrier()

    async def _note(self, member: Member) -> None:
        # Nobody is told of what the disk may refuse.
        await self._journal.append(metadata_change(member_metadata(member)))
        self._peers.members.put(member)

    def _now(self, member: Member) -> Member:
        return self._peers.members.get(member.incarnation) or member

    def _name(self, incarnation: str | None) -> str:
        member = None if incarnation is None else self._peers.members.get(incarnation)
        return str(incarnation) if member is None else member.name
