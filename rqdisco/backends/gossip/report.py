"""The state of the cluster for operators."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.transport.messages import Member

# Counting more would delay other requests.
MAX_LAG = 10_000


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One peer: `lag` counts own changes it lacks, `contact` is seconds since the last contact,
    `offset` seconds by which its clock is ahead.
    """

    name: str
    incarnation: str
    is_up: bool
    lag: int
    contact: float | None
    offset: float | None


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster in numbers; `hints` are registrations stored for other owners."""

    agree: bool
    ready: bool
    fenced: bool
    never_met: int
    hints: int
    unreplicated: int
    unreplicated_grants: int
    peers: tuple[PeerStatus, ...]


class PeerReport:
    """The state of all peers, and what is wrong with it. `frozen` returns why this daemon is frozen,
    None if it is not.
    """

    def __init__(self, peers: PeerSet, hint_store: HintStore, frozen: Callable[[], str | None]) -> None:
        self._peers = peers
        self._hint_store = hint_store
        self._frozen = frozen

    def as_object(self) -> dict[str, object]:
        """Return the document that `rqdisco peers` shows."""
        peers, own = self._peers, self._peers.members.own
        return {
            "name": own.name,
            "incarnation": own.incarnation,
            "url": own.url,
            "state": self._own_state(),
            "agreed": peers.convergence.members_agree(),
            "hints": self._hint_store.count,
            "unwitnessed": peers.change_pusher.unreplicated,
            "frozen": self._frozen(),
            "peers": [
                self._peer_object(member) for member in peers.members.all if member.incarnation != own.incarnation
            ]
            + [
                {"url": url, "state": "never met", "why": each.last_error}
                for url, each in sorted(peers.unidentified.items())
            ],
            "notes": self.notes(),
        }

    def status(self) -> ClusterStatus:
        """Return the numbers for metrics, active members only."""
        peers = self._peers
        return ClusterStatus(
            agree=peers.convergence.members_agree(),
            ready=peers.guard.is_ready,
            fenced=peers.guard.fenced is not None,
            never_met=len(peers.unidentified),
            hints=self._hint_store.count,
            unreplicated=peers.change_pusher.unreplicated,
            unreplicated_grants=peers.change_pusher.unreplicated_grants,
            peers=tuple(self._peer_status(member) for member in peers.members.others),
        )

    def is_ownerless(self, owner: str) -> bool:
        """Report whether the IDs of an owner are list-only (R7)."""
        return self._peers.members.has_lost(owner)

    def notes(self) -> list[str]:
        """Warnings for the operator."""
        frozen = self._frozen()
        return [*([] if frozen is None else [f"no changes here: {frozen}"]), *self._undecided(), *self._others()]

    def against_lists(self) -> list[str]:
        """Reasons why this daemon cannot serve lists: a removed member receives no updates, a new
        one has not received all records yet.
        """
        own = self._peers.members.own
        if own.state in ("forgotten", "drained"):
            return [f"this daemon was {own.state}"]
        return [f"the records of {who} are not here yet" for who in self._peers.awaited_sources]

    def against_grants(self) -> list[str]:
        """Reasons why this daemon cannot grant a bootstrap."""
        peers = self._peers
        if peers.change_pusher.is_required and not any(peer.is_up for peer in peers.active_peers()):
            return [*self._undecided(), "no peer is up to replicate a grant, and --grant-ack is required"]
        return self._undecided()

    def news(self) -> list[str]:
        """All other warnings, and pending hints."""
        count = self._hint_store.count
        hints = [f"{count} registrations wait for their owners"] if count else []
        return [*self._others(), *hints]

    def _undecided(self) -> list[str]:
        guard = self._peers.guard
        if guard.objection is not None:
            return [f"no decisions here: {guard.objection}"]
        if guard.is_ready:
            return []
        names = ", ".join(map(self._peers.members.label, guard.unconfirmed))
        missing = f"no contact with: {names}" if names else "no peer contacted yet"
        return [f"no decisions yet about IDs from before the start, {missing}"]

    def _others(self) -> list[str]:
        peers, notes = self._peers, []
        for member in peers.members.others:
            peer, label = peers.peers.get(member.incarnation), peers.members.label(member)
            if peer is None or not peer.is_up:
                notes.append(f"{label} does not answer")
            elif peer.stopped is not None:
                notes.append(f"{label} decides nothing: {peer.stopped}")
            elif peer.fingerprint != peers.members.fingerprint:
                how = f": {', '.join(peer.differences)}" if peer.differences else ""
                notes.append(f"{label} lists other members{how}")
        return [*notes, *(f"{url} was never met" for url in sorted(peers.unidentified))]

    def _own_state(self) -> str:
        guard = self._peers.guard
        if guard.fenced is not None:
            return "fenced"
        if self._peers.members.own.state != "member":
            return self._peers.members.own.state
        return "established" if guard.is_ready else "starting"

    def _peer_status(self, member: Member) -> PeerStatus:
        peer = self._peers.peers.get(member.incarnation)
        lag = self._peers.replication.lag(0 if peer is None else peer.acked, MAX_LAG)
        return PeerStatus(
            name=member.name,
            incarnation=member.incarnation,
            is_up=peer is not None and peer.is_up,
            lag=MAX_LAG if lag is None else lag,
            contact=self._peers.contact(member.incarnation),
            offset=None if peer is None or peer.clock_offset_ms is None else peer.clock_offset_ms / 1000,
        )

    def identify(self, member: Member) -> dict[str, object]:
        """Return which daemon a member is, its state, and seconds since the last contact."""
        peer, contact = self._peers.peers.get(member.incarnation), self._peers.contact(member.incarnation)
        return {
            "name": member.name,
            "incarnation": member.incarnation,
            "url": member.url,
            "state": member.state if member.state != "member" or peer is None else _state(peer),
            "last_contact": None if contact is None else round(contact, 1),
        }

    def _peer_object(self, member: Member) -> dict[str, object]:
        peers = self._peers
        peer, shown = peers.peers.get(member.incarnation), self.identify(member)
        if member.state in ("forgotten", "drained") or peer is None:
            successor = peers.members.get(peers.members.current_owner(member.incarnation))
            del shown["last_contact"]
            return {
                **shown,
                "successor": None if successor is None else successor.name,
                "successor_incarnation": None if successor is None else successor.incarnation,
            }
        shown["lag"] = peers.replication.lag(peer.acked)
        shown["clock_offset_ms"] = peer.clock_offset_ms
        shown["agrees"] = peer.fingerprint == peers.members.fingerprint
        shown["why"] = peer.stopped if shown["state"] == "fenced" else peer.last_error
        return shown


def _state(peer: Peer) -> str:
    if not peer.is_up:
        return "silent"
    return "up" if peer.stopped is None else "fenced"
