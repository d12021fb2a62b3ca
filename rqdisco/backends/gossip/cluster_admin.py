"""Administration of the cluster."""

from __future__ import annotations

from rqdisco.backends.gossip.report import PeerReport
from rqdisco.backends.gossip.succession import OwnerSuccession


class GossipAdmin:
    """Show peers, forget lost ones, drain this daemon."""

    def __init__(self, report: PeerReport, succession: OwnerSuccession) -> None:
        self._report = report
        self._succession = succession

    def show(self) -> dict[str, object]:
        """Return all peers and their state."""
        return self._report.as_object()

    async def forget(self, name: str) -> int:
        """See `OwnerSuccession.forget`."""
        return await self._succession.forget(name)

    async def drain(self, to: str | None) -> str:
        """See `OwnerSuccession.drain`."""
        return await self._succession.drain(to)
