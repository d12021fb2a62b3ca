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

    async def preview_forget(self, name: str) -> dict[str, object]:
        """Return what `forget` would do, and change nothing. Raises NoSuccessor."""
        lost = self._succession.find_lost(name)
        return {**self._report.identify(lost), "ids": await self._succession.count_ids(lost.incarnation)}

    async def forget(self, name: str) -> dict[str, object]:
        """Forget a lost daemon, see `OwnerSuccession.forget`; return which, and how many IDs it
        owned.
        """
        lost = self._succession.find_lost(name)
        ids = await self._succession.forget(lost.incarnation)
        return {"forgotten": lost.name, "incarnation": lost.incarnation, "ids": ids}

    async def drain(self, to: str | None) -> str:
        """See `OwnerSuccession.drain`."""
        return await self._succession.drain(to)
