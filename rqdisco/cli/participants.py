"""The daemons of a migration: what is asked of each of them, and which peers it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from rqdisco.cli.app import App, CommandFailed, operator_failure, retry
from rqdisco.cli.copies import Copy, fetch_copy
from rqdisco.client import DamagedExport, DiscoveryClient, FreezeState, PeersDocument, Refused, Unreachable
from rqdisco.client.urls import parse_url

# How long peers may need to exchange what they hold.
PATIENCE_SECONDS = 30.0
# States of peers that take no part any more.
_GONE = ("forgotten", "drained")

T = TypeVar("T")


class Services(msgspec.Struct, frozen=True):
    """The old and the new service: the URLs of their daemons, and a token for each service."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_token: str | None
    target_token: str | None


class Participant:
    """One daemon of a migration; `name` is its URL without credentials.

    As last learned: `store` is the ID of its store, `frozen` the reason why it is frozen, None if it
    is not, and `exports` the newest format of exports that it knows.
    """

    def __init__(self, app: App, url: str, token: str | None) -> None:
        self.name = parse_url(url).name
        self._app = app
        self.client: DiscoveryClient = app.connect(url, token)
        self.store = ""
        self.frozen: str | None = None
        self.exports = 0

    async def ask(self, request: Callable[[DiscoveryClient], Awaitable[T]]) -> T:
        """Return the answer to a request. Raises CommandFailed, which names the daemon; Refused."""
        try:
            return await request(self.client)
        except Unreachable as error:
            raise CommandFailed(f"cannot reach {self.name}: {error}; run the command again") from None

    async def update(self) -> None:
        """Learn whether the daemon is frozen. Raises CommandFailed."""
        try:
            self._learn(await self.ask(lambda client: client.freeze_state()))
        except Refused as error:
            raise CommandFailed(f"{self.name}: {operator_failure(error)}") from None

    async def freeze(self, reason: str) -> None:
        """Freeze the daemon, and wait until its last grants are answered. Raises CommandFailed."""

        async def request() -> FreezeState:
            return await self.ask(lambda client: client.freeze(reason))

        try:
            self._learn(await retry(self._app, request, PATIENCE_SECONDS, self.name))
        except Refused as error:
            raise CommandFailed(
                f"{self.name} cannot be frozen now: {error}; IDs only move to an empty service"
            ) from None

    async def thaw(self) -> None:
        """Thaw the daemon. Raises CommandFailed."""
        try:
            self._learn(await self.ask(lambda client: client.thaw()))
        except Refused as error:
            raise CommandFailed(f"{self.name} cannot be thawed now: {error}") from None

    async def peers(self) -> PeersDocument | None:
        """Return the peers of the daemon, None if it has none. Raises CommandFailed."""
        try:
            return await self.ask(lambda client: client.peers())
        except Refused as error:
            if error.status == 404:
                return None
            raise CommandFailed(f"{self.name}: {error}") from None

    async def copy(self) -> Copy:
        """Return a copy of all records. Raises CommandFailed."""
        try:
            return await self.ask(lambda client: fetch_copy(client, self.store))
        except (Refused, DamagedExport, msgspec.DecodeError) as error:
            raise CommandFailed(f"{self.name}: the export failed: {error}; run the command again") from None

    def _learn(self, state: FreezeState) -> None:
        self.store, self.frozen, self.exports = state.store, state.frozen, state.exports


def check_peers(
    option: str, daemon: Participant, document: PeersDocument | None, daemons: Sequence[Participant]
) -> None:
    """Check that the daemon and its peers are exactly these. Raises CommandFailed."""
    if document is None:
        if len(daemons) > 1:
            raise CommandFailed(f"{daemon.name} has no peers: name it alone, with one {option}")
        return
    if document.state != "established":
        raise CommandFailed(f"{daemon.name} may not decide about its IDs now ({document.state}): see `rqdisco peers`")
    stores = {each.store for each in daemons}
    for peer in document.peers:
        if peer.state in _GONE:
            continue
        if peer.incarnation not in stores:
            raise CommandFailed(
                f"{daemon.name} has the peer {peer.name or peer.url}: name it too, with another {option}"
            )
        if peer.state != "up":
            raise CommandFailed(f"{daemon.name} cannot reach its peer {peer.name} ({peer.state}): see `rqdisco peers`")
    if not document.agreed:
        raise CommandFailed(f"the peers of {daemon.name} list other members: see `rqdisco peers`")
    if missing := [each.name for each in daemons if each.store not in _members(document)]:
        raise CommandFailed(f"{missing[0]} is no peer of {daemon.name}")


def _members(document: PeersDocument) -> set[str]:
    return {document.incarnation, *(each.incarnation for each in document.peers if each.state not in _GONE)}
