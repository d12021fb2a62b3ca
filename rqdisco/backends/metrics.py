"""Metrics of claims and leaders."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from prometheus_client.metrics_core import Metric

from rqdisco.backends.claim_monitor import MOST, ClaimMonitor
from rqdisco.telemetry.metric_families import gauge
from rqdisco.telemetry.metrics import Source


def claim_metrics(waiting: ClaimMonitor) -> Source:
    """Claims whose leaders have not reported."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_claims_waiting",
            f"Claims that have waited more than a minute for a leader's first report; at most {MOST} are counted.",
            waiting.count,
        )

    return source


def leader_metrics(watch: Sized) -> Source:
    """IDs shared by two clusters."""

    def source() -> Iterable[Metric]:
        yield gauge("rqdisco_two_leaders", "IDs with two leaders reporting, which means two clusters.", len(watch))

    return source
