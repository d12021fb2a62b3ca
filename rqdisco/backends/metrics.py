"""The gauge of a frozen daemon."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.core.directory import Freezable
from rqdisco.telemetry.metric_families import gauge
from rqdisco.telemetry.metrics import MetricSource


def freeze_metrics(freezable: Freezable) -> MetricSource:
    """Return the source of the gauge of a frozen daemon."""

    def source() -> Iterable[Metric]:
        is_frozen = freezable.frozen is not None
        yield gauge("rqdisco_frozen", "1 if an operator froze this daemon, so that it changes nothing.", is_frozen)

    return source
