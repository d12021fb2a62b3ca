"""Metrics of the certificates that the service loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from prometheus_client.metrics_core import Metric

from rqdisco.telemetry.metric_families import gauges
from rqdisco.telemetry.metrics import MetricSource


def certificate_metrics(expiries: Callable[[], Iterable[tuple[str, datetime]]]) -> MetricSource:
    """Build the source of certificate metrics. `expiries` returns each certificate's name and when
    it expires.
    """

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_certificate_expiry_timestamp_seconds",
            "When the certificate expires, in seconds since 1970.",
            ("certificate",),
            (((name,), end.timestamp()) for name, end in expiries()),
        )

    return source
