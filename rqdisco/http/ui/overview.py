"""All that an operator's page shows of one daemon, gathered when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rqdisco.storage.compactor import Compactor
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.health import Health
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


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon at one moment. `created` and the like are counts of the last 60 minutes, the
    running one last.
    """

    service: Mapping[str, Any]
    nodes: int | None
    watchers: int
    wrong: Sequence[str]
    notes: Sequence[str]
    created: Sequence[int]
    registered: Sequence[int]
    granted: Sequence[int]
    disk: DiskView | None
    peers: Mapping[str, Any] | None
    changes: Sequence[RecentChange]


class Overview:
    """Looks at the parts of a daemon. `nodes` counts what is registered, None as long as that is
    not known; `peers` gives what `rqdisco peers` shows, if there are any.
    """

    def __init__(
        self,
        service: Callable[[], Mapping[str, Any]],
        nodes: Callable[[], int | None],
        health: Health,
        recent: RecentActivity,
        peers: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._service = service
        self._nodes = nodes
        self._health = health
        self._recent = recent
        self._peers = peers
        self._journal: Journal | None = None
        self._compactor: Compactor | None = None

    def show_disk(self, journal: Journal, compactor: Compactor) -> None:
        """Have these in it too."""
        self._journal, self._compactor = journal, compactor

    def look(self, watchers: int) -> StatusView:
        """How all is now."""
        condition, recent = self._health.for_grants(), self._recent
        return StatusView(
            service=self._service(),
            nodes=self._nodes(),
            watchers=watchers,
            wrong=condition.wrong,
            notes=condition.notes,
            created=recent.minutes(CREATED),
            registered=recent.minutes(REGISTERED),
            granted=recent.minutes(GRANTED),
            disk=self._disk(),
            peers=None if self._peers is None else self._peers(),
            changes=recent.changes,
        )

    def _disk(self) -> DiskView | None:
        journal, compactor = self._journal, self._compactor
        if journal is None or compactor is None:
            return None
        return DiskView(
            refused=journal.refused,
            bytes_written=journal.bytes_written,
            changes_written=journal.changes_written,
            batches_written=journal.batches_written,
            snapshot_age=compactor.age,
            snapshot_every=compactor.interval,
            snapshot_lasted=compactor.lasted,
        )
