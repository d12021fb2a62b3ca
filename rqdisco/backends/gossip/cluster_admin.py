"""Administration of the cluster."""

from __future__ import annotations

from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.succession import Successions


class GossipAdmin:
    """Show peers, forget lost ones, drain this daemon."""

    def __init__(self, report: PeerReport, successions: Successions) -> None:
        self._report = report
        self._successions = successions

    def show(self) -> dict[str, object]:
        """Return all peers and their state."""
        return self._report.as_object()

    async def forget(self, name: str) -> int:
        """See `Successions.forget`."""
        return await self._successions.forget(name)

    async def drain(self, to: str | None) -> str:
        """See `Successions.drain`."""
        return await self._successions.drain(to)
