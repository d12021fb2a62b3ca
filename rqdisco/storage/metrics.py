"""Metrics of the write-ahead log, snapshots and records held."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.storage.compactor import Compactor
from rqdisco.storage.memory import Store
from rqdisco.storage.node_counter import NodeCounter
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.counters import Histogram
from rqdisco.telemetry.metric_families import counter, counters, gauge, gauge_if_known, histogram
from rqdisco.telemetry.metrics import Source


def wal_metrics(journal: Journal, syncs: Histogram) -> Source:
    """What was written, and whether anything can be."""

    def source() -> Iterable[Metric]:
        yield counter("rqdisco_journal_written_bytes", "Bytes of records in the journal.", journal.bytes_written)
        yield counter(
            "rqdisco_journal_batches", "Batches that were made durable, each by one sync.", journal.batches_written
        )
        yield counter("rqdisco_journal_changes", "Changes that were made durable.", journal.changes_written)
        yield gauge(
            "rqdisco_journal_refusing",
            "1 if the last batch was refused for want of room, so that nothing can be changed.",
            journal.refused is not None,
        )
        yield histogram("rqdisco_journal_sync_duration_seconds", "Seconds that a sync of the journal took.", syncs)

    return source


def snapshot_metrics(compactor: Compactor) -> Source:
    """How fresh the snapshot is."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_snapshot_age_seconds",
            "Seconds since the snapshot was last known to hold all there was.",
            compactor.age,
        )
        yield gauge("rqdisco_snapshot_interval_seconds", "Seconds between snapshots, as set.", compactor.interval)
        yield gauge_if_known(
            "rqdisco_snapshot_duration_seconds", "Seconds that the last snapshot took.", compactor.lasted
        )
        ended = [((outcome,), compactor.outcomes[outcome]) for outcome in ("folded", "failed")]
        yield counters("rqdisco_snapshots", "Snapshots that were begun, by how they ended.", ("outcome",), ended)

    return source


def record_metrics(store: Store, node_counter: NodeCounter, is_ownerless: Callable[[str], bool]) -> Source:
    """What is held. `is_ownerless` says whether nobody can be told to bootstrap under the IDs of a
    home.
    """

    def source() -> Iterable[Metric]:
        ownerless_count = sum(count for owner, lost, count in node_counter.owners() if lost or is_ownerless(owner))
        yield gauge("rqdisco_ids", "Discovery IDs that are held, copies of other daemons' included.", len(store))
        # Not before all were looked at.
        yield gauge_if_known(
            "rqdisco_nodes",
            "Nodes that are registered under all IDs that are held.",
            node_counter.nodes if node_counter.is_whole else None,
        )
        yield gauge_if_known(
            "rqdisco_ownerless_ids",
            "IDs that lost their home and seed no cluster any more.",
            ownerless_count if node_counter.is_whole else None,
        )

    return source
