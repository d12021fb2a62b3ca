"""What an operator is shown of peers."""

from __future__ import annotations

from typing import Any

import msgspec

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.transport.messages import Member

# To count more would hold up others.
MOST_LAG = 10_000


class PeerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One peer: how many own changes it lacks, seconds since it was heard, seconds by which its
    clock is ahead.
    """

    name: str
    incarnation: str
    is_up: bool
    lag: int
    contact: float | None
    offset: float | None


class PeersSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How this daemon and its peers get on, in numbers; `hints` are registrations kept for other
    homes.
    """

    agree: bool
    ready: bool
    fenced: bool
    never_met: int
    hints: int
    unreplicated: int
    unreplicated_grants: int
    peers: tuple[PeerSeen, ...]


class PeerReport:
    """The state of all peers, and what is not as it should be."""

    def __init__(self, peers: PeerSet, hint_store: HintStore) -> None:
        self._peers = peers
        self._hint_store = hint_store

    def as_object(self) -> dict[str, Any]:
        """Everything, as `rqdisco peers` shows it."""
        peers, own = self._peers, self._peers.members.own
        return {
            "name": own.name,
            "incarnation": own.incarnation,
            "url": own.url,
            "state": self._own_state(),
            "agreed": peers.agreement.is_on_members(),
            "hints": self._hint_store.count,
            "unwitnessed": peers.change_pusher.unreplicated,
            "peers": [self._peer(member) for member in peers.members.all if member.incarnation != own.incarnation]
            + [{"url": url, "state": "never met", "why": each.why} for url, each in sorted(peers.strangers.items())],
            "notes": self.notes(),
        }

    def seen(self) -> PeersSeen:
        """The same in numbers, of those who take part."""
        peers = self._peers
        return PeersSeen(
            agree=peers.agreement.is_on_members(),
            ready=peers.guard.is_ready,
            fenced=peers.guard.fenced is not None,
            never_met=len(peers.strangers),
            hints=self._hint_store.count,
            unreplicated=peers.change_pusher.unreplicated,
            unreplicated_grants=peers.change_pusher.unreplicated_grants,
            peers=tuple(self._seen(member) for member in peers.members.others),
        )

    def is_ownerless(self, owner: str) -> bool:
        """Whether the IDs of a home have nobody who may grant (R7)."""
        return self._peers.members.has_lost(owner)

    def notes(self) -> list[str]:
        """What an operator should know of, in words."""
        return [*self._undecided(), *self._others()]

    def against_lists(self) -> list[str]:
        """Why lists cannot be served here: who is gone for good is told nothing any more, who is
        new not all yet.
        """
        own = self._peers.members.own
        if own.state in ("forgotten", "drained"):
            return [f"this daemon was {own.state}"]
        return [f"the records of {who} are not here yet" for who in self._peers.to_be_taken_over]

    def against_grants(self) -> list[str]:
        """Why nobody may be told here that it is alone."""
        peers = self._peers
        if peers.change_pusher.is_required and not any(peer.is_up for peer in peers.taking_part()):
            return [*self._undecided(), "no peer is up to keep a grant, which is required"]
        return self._undecided()

    def news(self) -> list[str]:
        """The other notes, and what waits."""
        count = self._hint_store.count
        hints = [f"{count} registrations wait for their homes"] if count else []
        return [*self._others(), *hints]

    def _undecided(self) -> list[str]:
        guard = self._peers.guard
        if guard.objection is not None:
            return [f"nothing is decided here: {guard.objection}"]
        if guard.is_ready:
            return []
        names = ", ".join(each.name for each in guard.missing)
        return [f"IDs from before the start are not decided about yet, not heard: {names}"]

    def _others(self) -> list[str]:
        peers, notes = self._peers, []
        for member in peers.members.others:
            peer = peers.peers.get(member.incarnation)
            if peer is None or not peer.is_up:
                notes.append(f"{member.name} does not answer")
            elif peer.stopped is not None:
                notes.append(f"{member.name} decides nothing: {peer.stopped}")
            elif peer.agreed != peers.members.agreed:
                how = f": {', '.join(peer.differs)}" if peer.differs else ""
                notes.append(f"{member.name} knows other members{how}")
        return [*notes, *(f"{url} was never met" for url in sorted(peers.strangers))]

    def _own_state(self) -> str:
        guard = self._peers.guard
        if guard.fenced is not None:
            return "fenced"
        if self._peers.members.own.state != "member":
            return self._peers.members.own.state
        return "established" if guard.is_ready else "starting"

    def _seen(self, member: Member) -> PeerSeen:
        peer = self._peers.peers.get(member.incarnation)
        lag = self._peers.replication.lag(0 if peer is None else peer.acked, MOST_LAG)
        return PeerSeen(
            name=member.name,
            incarnation=member.incarnation,
            is_up=peer is not None and peer.is_up,
            lag=MOST_LAG if lag is None else lag,
            contact=self._peers.contact(member.incarnation),
            offset=None if peer is None or peer.offset_ms is None else peer.offset_ms / 1000,
        )

    def _peer(self, member: Member) -> dict[str, Any]:
        peers = self._peers
        peer = peers.peers.get(member.incarnation)
        shown: dict[str, Any] = {"name": member.name, "incarnation": member.incarnation, "url": member.url}
        if member.state in ("forgotten", "drained") or peer is None:
            successor = peers.members.get(peers.members.current_owner(member.incarnation))
            return {**shown, "state": member.state, "successor": None if successor is None else successor.name}
        contact = peers.contact(member.incarnation)
        shown["state"] = _state(peer) if member.state == "member" else member.state
        shown["last_contact"] = None if contact is None else round(contact, 1)
        shown["lag"] = peers.replication.lag(peer.acked)
        shown["clock_offset_ms"] = peer.offset_ms
        shown["agrees"] = peer.agreed == peers.members.agreed
        shown["why"] = peer.stopped if shown["state"] == "fenced" else peer.why
        return shown


def _state(peer: Peer) -> str:
    if not peer.is_up:
        return "silent"
    return "up" if peer.stopped is None else "fenced"
