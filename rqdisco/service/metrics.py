"""Metrics of what the service itself holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import Metric

from rqdisco.telemetry.metric_families import gauges
from rqdisco.telemetry.metrics import Source


def certificate_metrics(expiries: Callable[[], Mapping[str, float]]) -> Source:
    """`expiries` gives when each certificate ends, in seconds since 1970, by what it is called."""

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in seconds since 1970.",
            ("certificate",),
            (((name,), end) for name, end in expiries().items()),
        )

    return source
