"""The gauges of claims without a reporting leader, of IDs with two leaders, and of a frozen daemon."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from prometheus_client.metrics_core import Metric

from rqdisco.backends.claim_monitor import MAX_TRACKED, ClaimMonitor
from rqdisco.core.directory import Freezable
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


def freeze_metrics(freezable: Freezable) -> MetricSource:
    """Return the source of the gauge of a frozen daemon."""

    def source() -> Iterable[Metric]:
        is_frozen = freezable.frozen is not None
        yield gauge("rqdisco_frozen", "1 if an operator froze this daemon, so that it changes nothing.", is_frozen)

    return source
