"""Metrics of etcd as this daemon sees it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.monitor import EtcdMonitor, MonitoredState
from rqdisco.telemetry.metric_families import counter, counters, gauge, gauge_if_known, gauges, histogram
from rqdisco.telemetry.metrics import MetricSource


def etcd_metrics(monitor: EtcdMonitor, state: MonitoredState, counts: EtcdCounts) -> MetricSource:
    """Return the source of all metrics of etcd."""

    def source() -> Iterable[Metric]:
        yield gauge_if_known(
            "rqdisco_ids",
            "Discovery IDs in etcd when last counted: every minute, or every 10 minutes at a million.",
            monitor.ids,
        )
        yield gauge(
            "rqdisco_etcd_up",
            "1 if the last read of the store's state succeeded, which takes a quorum.",
            monitor.failure is None,
        )
        yield gauge(
            "rqdisco_etcd_full", "1 if etcd's NOSPACE alarm is raised, so that nothing can be changed.", monitor.is_full
        )
        yield gauge(
            "rqdisco_etcd_went_back",
            "1 if etcd seems to be restored from a backup, which stops grants until a restart.",
            state.grant_objection is not None,
        )
        labels = ("endpoint",)
        yield gauges(
            "rqdisco_etcd_member_up",
            "1 if the member answers.",
            labels,
            (((each.endpoint,), each.status is not None) for each in monitor.members),
        )
        known = [(each.endpoint, each.status) for each in monitor.members if each.status is not None]
        yield gauges(
            "rqdisco_etcd_database_bytes",
            "Size of the member's database file.",
            labels,
            (((endpoint,), status.db_size) for endpoint, status in known),
        )
        yield gauges(
            "rqdisco_etcd_database_used_bytes",
            "Size of what the member's database holds, without free pages.",
            labels,
            (((endpoint,), status.db_size_in_use) for endpoint, status in known),
        )
        yield counters(
            "rqdisco_etcd_requests",
            "Requests to etcd, by kind and outcome.",
            ("kind", "outcome"),
            counts.requests.items(),
        )
        yield histogram(
            "rqdisco_etcd_request_duration_seconds", "Seconds that requests took, with repetitions.", counts.seconds
        )
        yield counter(
            "rqdisco_etcd_resends",
            "Copies of requests that were sent because an answer was lost, besides the first copy of each further"
            " attempt.",
            counts.resends,
        )
        yield counter("rqdisco_etcd_switches", "Changes to another endpoint because one failed.", counts.switches)
        yield counter("rqdisco_etcd_token_renewals", "Tokens that were asked for.", counts.renewals)

    return source
