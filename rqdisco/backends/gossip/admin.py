"""Administration of the cluster: report its state, and remove daemons from it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rqdisco.backends.gossip.core import decide, pushes, queries
from rqdisco.backends.gossip.core.inputs import Drain, Forget
from rqdisco.backends.gossip.core.lost_member import find_lost
from rqdisco.backends.gossip.core.messages import Member
from rqdisco.backends.gossip.core.state import Peer, State
from rqdisco.backends.gossip.driver import Driver

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
    """The state of all peers, and what is wrong with it. `seconds` is the clock of the state."""

    def __init__(self, state: State, seconds: Callable[[], float]) -> None:
        self._state = state
        self._seconds = seconds

    def as_object(self) -> dict[str, object]:
        """Return the document that `rqdisco peers` shows."""
        state, own = self._state, self._state.members.own
        return {
            "name": own.name,
            "incarnation": own.incarnation,
            "url": own.url,
            "state": self._own_state(),
            "agreed": queries.members_agree(state),
            "hints": state.hints.count,
            "unwitnessed": state.unreplicated,
            "frozen": state.frozen,
            "peers": [
                self._peer_object(member) for member in state.members.all if member.incarnation != own.incarnation
            ]
            + [
                {"url": url, "state": "never met", "why": each.last_error}
                for url, each in sorted(state.unidentified.items())
            ],
            "notes": self.notes(),
        }

    def status(self) -> ClusterStatus:
        """Return the numbers for metrics, active members only."""
        state = self._state
        return ClusterStatus(
            agree=queries.members_agree(state),
            ready=decide.shows_ready(state),
            fenced=state.fenced is not None,
            never_met=len(state.unidentified),
            hints=state.hints.count,
            unreplicated=state.unreplicated,
            unreplicated_grants=state.unreplicated_grants,
            peers=tuple(self._peer_status(member) for member in state.members.others),
        )

    def is_ownerless(self, owner: str) -> bool:
        """Report whether the IDs of an owner are list-only (R7)."""
        return self._state.members.has_lost(owner)

    def notes(self) -> list[str]:
        """Warnings for the operator."""
        frozen = self._state.frozen
        return [*([] if frozen is None else [f"no changes here: {frozen}"]), *self._undecided(), *self._others()]

    def against_lists(self) -> list[str]:
        """Reasons why this daemon cannot serve lists: a removed member receives no updates, a new
        one has not received all records yet.
        """
        own = self._state.members.own
        if own.state in ("forgotten", "drained"):
            return [f"this daemon was {own.state}"]
        return [f"the records of {who} are not here yet" for who in queries.awaited_sources(self._state)]

    def against_grants(self) -> list[str]:
        """Reasons why this daemon cannot grant a bootstrap."""
        if self._state.config.ack_required and not any(peer.is_up for peer in queries.active_peers(self._state)):
            return [*self._undecided(), pushes.NO_PEER]
        return self._undecided()

    def other_warnings(self) -> list[str]:
        """All other warnings, and pending hints."""
        count = self._state.hints.count
        hints = [f"{count} registrations wait for their owners"] if count else []
        return [*self._others(), *hints]

    def _undecided(self) -> list[str]:
        if (objection := decide.objection(self._state)) is not None:
            return [f"no decisions here: {objection}"]
        if decide.shows_ready(self._state):
            return []
        names = ", ".join(map(self._state.members.label, decide.unconfirmed(self._state)))
        missing = f"no contact with: {names}" if names else "no peer contacted yet"
        return [f"no decisions yet about IDs from before the start, {missing}"]

    def _others(self) -> list[str]:
        state, notes = self._state, []
        for member in state.members.others:
            peer, label = state.peers.get(member.incarnation), state.members.label(member)
            if peer is None or not peer.is_up:
                notes.append(f"{label} does not answer")
            elif peer.fenced_reason is not None:
                notes.append(f"{label} decides nothing: {peer.fenced_reason}")
            elif peer.has_unmet:
                notes.append(f"{label} has not met all its peers")
            elif peer.fingerprint != state.members.fingerprint:
                how = f": {', '.join(peer.differences)}" if peer.differences else ""
                notes.append(f"{label} lists other members{how}")
        return [*notes, *(f"{url} was never met" for url in sorted(state.unidentified))]

    def _own_state(self) -> str:
        if self._state.fenced is not None:
            return "fenced"
        if self._state.members.own.state != "member":
            return self._state.members.own.state
        return "established" if decide.shows_ready(self._state) else "starting"

    def _peer_status(self, member: Member) -> PeerStatus:
        peer = self._state.peers.get(member.incarnation)
        lag = self._state.cursors.lag(0 if peer is None else peer.acked, MAX_LAG)
        return PeerStatus(
            name=member.name,
            incarnation=member.incarnation,
            is_up=peer is not None and peer.is_up,
            lag=MAX_LAG if lag is None else lag,
            contact=queries.seconds_since_contact(self._state, member.incarnation, self._seconds()),
            offset=None if peer is None or peer.clock_offset_ms is None else peer.clock_offset_ms / 1000,
        )

    def identify(self, member: Member) -> dict[str, object]:
        """Return which daemon a member is, its state, and seconds since the last contact."""
        peer = self._state.peers.get(member.incarnation)
        contact = queries.seconds_since_contact(self._state, member.incarnation, self._seconds())
        return {
            "name": member.name,
            "incarnation": member.incarnation,
            "url": member.url,
            "state": member.state if member.state != "member" or peer is None else _state(peer),
            "last_contact": None if contact is None else round(contact, 1),
        }

    def _peer_object(self, member: Member) -> dict[str, object]:
        state = self._state
        peer, shown = state.peers.get(member.incarnation), self.identify(member)
        if member.state in ("forgotten", "drained") or peer is None:
            successor = state.members.get(state.members.current_owner(member.incarnation))
            del shown["last_contact"]
            return {
                **shown,
                "successor": None if successor is None else successor.name,
                "successor_incarnation": None if successor is None else successor.incarnation,
            }
        shown["lag"] = state.cursors.lag(peer.acked)
        shown["clock_offset_ms"] = peer.clock_offset_ms
        shown["agrees"] = peer.fingerprint == state.members.fingerprint
        shown["why"] = peer.fenced_reason if shown["state"] == "fenced" else peer.last_error
        return shown


def _state(peer: Peer) -> str:
    if not peer.is_up:
        return "silent"
    return "up" if peer.fenced_reason is None else "fenced"


class GossipAdmin:
    """Show peers, forget lost ones, drain this daemon."""

    def __init__(self, report: PeerReport, driver: Driver, clock: IReactorTime) -> None:
        self._report = report
        self._driver = driver
        self._clock = clock

    def show(self) -> dict[str, object]:
        """Return all peers and their state."""
        return self._report.as_object()

    async def preview_forget(self, name: str) -> dict[str, object]:
        """Return what `forget` would do, and change nothing. Raises NoSuccessor."""
        lost = find_lost(self._driver.state, name)
        return {**self._report.identify(lost), "ids": await self._count_ids(lost.incarnation)}

    async def forget(self, name: str) -> dict[str, object]:
        """Make this daemon the owner of a lost one's IDs; return which daemon that is, and how many
        IDs it owned. Raises NoSuccessor, StoreUnavailable.
        """
        lost = find_lost(self._driver.state, name)
        ids: int = await self._driver.request(Forget(lost.incarnation))
        return {"forgotten": lost.name, "incarnation": lost.incarnation, "ids": ids}

    async def _count_ids(self, incarnation: str) -> int:
        """Return how many IDs a member owns, as far as this daemon knows."""
        count = position = 0
        while True:
            keys, position = self._driver.state.cursors.keys_of_owner(incarnation, position)
            count += len(keys)
            if not position:
                return count
            await deferLater(self._clock, 0)

    async def drain(self, to: str | None) -> str:
        """Hand all IDs of this daemon over to a peer, `to` if given; return its name.

        Raises NoSuccessor, StoreUnavailable.
        """
        name: str = await self._driver.request(Drain(to))
        return name
