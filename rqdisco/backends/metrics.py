"""The gauges of claims without a reporting leader, and of IDs with two leaders."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from prometheus_client.metrics_core import Metric

from rqdisco.backends.claim_monitor import MAX_TRACKED, ClaimMonitor
from rqdisco.telemetry.metric_families import gauge
from rqdisco.telemetry.metrics import MetricSource


def claim_metrics(claims: ClaimMonitor) -> MetricSource:
    """Return the source of the gauge of claims whose leaders have not reported."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_claims_waiting",
            "Claims that have waited more than a minute for a leader's first report; at most"
            f" {MAX_TRACKED} are counted.",
            claims.count,
        )

    return source


def leader_metrics(leaders: Sized) -> MetricSource:
    """Return the source of the gauge of IDs that two clusters share."""

    def source() -> Iterable[Metric]:
        yield gauge("rqdisco_two_leaders", "IDs with two reporting leaders, which means two clusters.", len(leaders))

    return source
