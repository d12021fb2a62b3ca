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
from rqdisco.telemetry.metrics import MetricSource


def wal_metrics(journal: Journal, syncs: Histogram) -> MetricSource:
    """Bytes, batches and changes written, and whether writes are refused."""

    def source() -> Iterable[Metric]:
        yield counter(
            "rqdisco_journal_written_bytes", "Bytes of records written to the journal.", journal.bytes_written
        )
        yield counter("rqdisco_journal_batches", "Batches made durable, each by one sync.", journal.batches_written)
        yield counter("rqdisco_journal_changes", "Changes made durable.", journal.changes_written)
        yield gauge(
            "rqdisco_journal_refusing",
            "1 if the last batch was refused for lack of space, so that nothing can be changed.",
            journal.refused is not None,
        )
        yield histogram("rqdisco_journal_sync_duration_seconds", "Seconds that a sync of the journal took.", syncs)

    return source


def snapshot_metrics(compactor: Compactor) -> MetricSource:
    """Return the metrics of snapshots."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_snapshot_age_seconds",
            "Seconds since the snapshot last held all records.",
            compactor.age,
        )
        yield gauge("rqdisco_snapshot_interval_seconds", "Configured seconds between snapshots.", compactor.interval)
        yield gauge_if_known(
            "rqdisco_snapshot_duration_seconds", "Seconds that the last snapshot took.", compactor.lasted
        )
        ended = [((outcome,), compactor.outcomes[outcome]) for outcome in ("written", "failed")]
        yield counters("rqdisco_snapshots", "Started snapshots, by outcome.", ("outcome",), ended)

    return source


def record_metrics(store: Store, node_counter: NodeCounter, is_ownerless: Callable[[str], bool]) -> MetricSource:
    """The records held. `is_ownerless` reports whether the IDs of an owner cannot bootstrap a
    cluster.
    """

    def source() -> Iterable[Metric]:
        ownerless_count = sum(count for owner, lost, count in node_counter.owners() if lost or is_ownerless(owner))
        yield gauge("rqdisco_ids", "Discovery IDs held, including copies of other daemons' IDs.", len(store))
        # Unknown until all records are counted.
        yield gauge_if_known(
            "rqdisco_nodes",
            "Nodes registered under all these IDs.",
            node_counter.nodes if node_counter.is_complete else None,
        )
        yield gauge_if_known(
            "rqdisco_ownerless_ids",
            "IDs without an owner, which cannot bootstrap a cluster.",
            ownerless_count if node_counter.is_complete else None,
        )

    return source
