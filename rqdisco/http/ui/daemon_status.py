"""The state of one daemon that the status page shows, collected for each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from rqdisco.core.ids import short_incarnations
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.health import DaemonHealth
from rqdisco.telemetry.recent import CREATED, GRANTED, REGISTERED, RecentActivity, RecentChange


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """Journal and snapshot. `refused` is why nothing can be written, ages and durations are in
    seconds.
    """

    refused: str | None
    bytes_written: int
    changes_written: int
    batches_written: int
    snapshot_age: float
    snapshot_every: float
    snapshot_lasted: float | None


class PeerView(msgspec.Struct, frozen=True):
    """A peer. Only `url` and `state` are known of one that was never met. `last_contact` is in
    seconds, `lag` is the number of changes that the peer lacks.
    """

    state: str
    name: str | None = None
    incarnation: str | None = None
    url: str = ""
    last_contact: float | None = None
    lag: int | None = None
    clock_offset_ms: float | None = None

    @property
    def is_up(self) -> bool:
        """Report whether the peer answers."""
        return self.state == "up"


class PeersView(msgspec.Struct, frozen=True):
    """This daemon and its peers."""

    name: str
    incarnation: str
    state: str
    peers: list[PeerView]

    def short_incarnation(self, incarnation: str | None) -> str:
        """Return the short form of an incarnation, nothing for a peer that was never met."""
        known = (self.incarnation, *(each.incarnation for each in self.peers))
        return "" if incarnation is None else short_incarnations(each for each in known if each)[incarnation]

    def label(self, daemon: PeerView | PeersView) -> str | None:
        """Return the name of a peer or of this daemon, with its incarnation where another one has
        that name.
        """
        if daemon.name is None or [self.name, *(each.name for each in self.peers)].count(daemon.name) < 2:
            return daemon.name
        return f"{daemon.name} ({self.short_incarnation(daemon.incarnation)})"


class EtcdMemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member of etcd. `problem` is why it does not answer; the sizes are those of its database,
    in bytes.
    """

    endpoint: str
    problem: str | None = None
    version: str | None = None
    leads: bool = False
    size: int | None = None
    used: int | None = None


class EtcdMonitored(Protocol):
    """The part of a monitor of etcd that the page shows."""

    @property
    def views(self) -> Sequence[Mapping[str, object]]:
        """The fields of an `EtcdMemberView` for each member."""


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon at one moment. `nodes` is None until they are counted, and unset where they are
    not. `created`, `registered` and `granted` are counts for each of the
    last 60 minutes, the current one last.
    """

    service: ServiceDocument
    nodes: int | UnsetType | None
    watchers: int
    wrong: Sequence[str]
    notes: Sequence[str]
    created: Sequence[int]
    registered: Sequence[int]
    granted: Sequence[int]
    disk: DiskView | None
    etcd: Sequence[EtcdMemberView] | None
    peers: PeersView | None
    changes: Sequence[RecentChange]


class StatusCollector:
    """Collects the state of a daemon's parts.

    `count_nodes` returns the number of registered nodes, None until it is known. `show_peers`
    returns what `rqdisco peers` prints; it is None without peers. `disk` is None where nothing is
    stored, `etcd` where that is done by the daemon itself.
    """

    def __init__(
        self,
        describe: Callable[[], ServiceDocument],
        count_nodes: Callable[[], int | None] | None,
        health: DaemonHealth,
        recent: RecentActivity,
        show_peers: Callable[[], Mapping[str, object]] | None = None,
        disk: tuple[Journal, Compactor] | None = None,
        etcd: EtcdMonitored | None = None,
    ) -> None:
        self._describe = describe
        self._count_nodes = count_nodes
        self._health = health
        self._recent = recent
        self._show_peers = show_peers
        self._disk = disk
        self._etcd = etcd

    def collect(self, watchers: int) -> StatusView:
        """Return the current state; `watchers` is the number of open event streams."""
        condition, recent = self._health.for_grants(), self._recent
        return StatusView(
            service=self._describe(),
            nodes=UNSET if self._count_nodes is None else self._count_nodes(),
            watchers=watchers,
            wrong=condition.wrong,
            notes=condition.notes,
            created=recent.minutes(CREATED),
            registered=recent.minutes(REGISTERED),
            granted=recent.minutes(GRANTED),
            disk=None if self._disk is None else _disk_view(*self._disk),
            etcd=None if self._etcd is None else msgspec.convert(self._etcd.views, list[EtcdMemberView]),
            peers=None if self._show_peers is None else msgspec.convert(self._show_peers(), PeersView),
            changes=recent.changes,
        )


def _disk_view(journal: Journal, compactor: Compactor) -> DiskView:
    return DiskView(
        refused=journal.refused,
        bytes_written=journal.bytes_written,
        changes_written=journal.changes_written,
        batches_written=journal.batches_written,
        snapshot_age=compactor.age,
        snapshot_every=compactor.interval,
        snapshot_lasted=compactor.lasted,
    )
