"""Find IDs by a part of the ID or of an address, page by page, for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater

from rqdisco.core.directory import Directory
from rqdisco.core.verdicts import Health, Verdict, utc
from rqdisco.core.views import View
from rqdisco.http.requests.documents import LegacyTime, legacy_time
from rqdisco.limits.slots import Slots

DEFAULT_CLUSTERS, MAX_CLUSTERS = 100, 1000
# A page ends after so many records, whatever it has found: a request takes a second at most.
_MAX_EXAMINED = 10_000
# Each search takes a part of every turn of the reactor. The others wait for as long as clients do.
SEARCHES_AT_ONCE = 4
SEARCH_PATIENCE_SECONDS = 5.0


class ClusterQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A search: a part of the ID or of an address in any case, the health, where the last page
    ended, and how many IDs to return at most.
    """

    search: str = ""
    health: Health | None = None
    after: str = ""
    limit: int = DEFAULT_CLUSTERS


class ListedCluster(msgspec.Struct, frozen=True, kw_only=True):
    """An ID as a list shows it; `age` is in seconds."""

    disco_id: str
    created_at: LegacyTime
    age: int
    nodes: Annotated[int, Meta(description="The number of nodes.")]
    health: Annotated[Health, Meta(description="The verdict on the cluster, as in a lookup.")]
    reason: Annotated[str, Meta(description="The reason of the verdict.")]
    leader: Annotated[str | UnsetType, Meta(description="The address of the leader's node.")] = UNSET
    reported: Annotated[str | UnsetType, Meta(description="When the leader last reported itself, in UTC.")] = UNSET


class ClusterList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of IDs, in their order."""

    clusters: list[ListedCluster]
    next: Annotated[
        str | None, Meta(description="The value of `after` for the next page, null at the end. A page may be short.")
    ]


class ClusterSearch:
    """Searches the IDs of a directory. `judge` returns the verdict on a cluster, `wall_us` the wall
    clock in microseconds since 1970.

    A search goes through all records, so it lets other work run every few milliseconds. A page may
    have less than was asked for, even nothing, and still have a next one.
    """

    def __init__(
        self, directory: Directory, judge: Callable[[View], Verdict], clock: IReactorTime, wall_us: Callable[[], int]
    ) -> None:
        self._directory = directory
        self._judge = judge
        self._clock = clock
        self._wall_us = wall_us
        self._slots = Slots(SEARCHES_AT_ONCE, SEARCH_PATIENCE_SECONDS, clock)

    async def find(self, query: ClusterQuery) -> ClusterList:
        """Return a page of a search. Raises StoreUnavailable, TooBusy."""
        async with self._slots.take():
            return await self._find(query)

    async def _find(self, query: ClusterQuery) -> ClusterList:
        needle = query.search.encode().lower()
        found: list[ListedCluster] = []
        examined = 0
        async for page in self._directory.search(query.after, query.search):
            for record in page:
                view = self._directory.view(record)
                if not _matches(view, needle):
                    continue
                verdict = self._judge(view)
                if query.health not in (None, verdict.health):
                    continue
                if len(found) == query.limit:
                    return ClusterList(clusters=found, next=found[-1].disco_id)
                found.append(self._listed(view, verdict))
            examined += len(page)
            if examined >= _MAX_EXAMINED:
                return ClusterList(clusters=found, next=page[-1].id)
            # deferLater takes any IReactorTime, but its annotation names implementations.
            await deferLater(cast("Clock", self._clock), 0.0)
        return ClusterList(clusters=found, next=None)

    def _listed(self, view: View, verdict: Verdict) -> ListedCluster:
        leader = view.leader
        return ListedCluster(
            disco_id=view.id,
            created_at=legacy_time(view.created_at),
            age=max(0, self._wall_us() - view.created_at) // 1_000_000,
            nodes=len(view.nodes),
            health=verdict.health,
            reason=verdict.reason,
            leader=UNSET if leader is None else leader.addr,
            reported=utc(leader.modified) if leader is not None and view.confirmed else UNSET,
        )


def _matches(view: View, needle: bytes) -> bool:
    if not needle or needle in view.id.encode().lower():
        return True
    return any(
        needle in node.addr.encode().lower()
        or (node.raft_addr is not None and needle in node.raft_addr.encode().lower())
        for node in view.nodes
    )
