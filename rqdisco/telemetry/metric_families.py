"""Builds Prometheus metric families from plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from rqdisco.telemetry.counters import Histogram

Labels = Sequence[str]


def gauge(name: str, help_: str, value: float) -> Metric:
    """Build a gauge: a number that may rise and fall."""
    return GaugeMetricFamily(name, help_, value=value)


def gauge_if_known(name: str, help_: str, value: float | None) -> Metric:
    """Build a gauge without a sample if `value` is None."""
    return GaugeMetricFamily(name, help_, value=value)


def gauges(name: str, help_: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """Build a gauge for each set of labels."""
    family = GaugeMetricFamily(name, help_, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def counter(name: str, help_: str, value: float) -> Metric:
    """Build a counter: a number that only rises until a restart."""
    return CounterMetricFamily(name, help_, value=value)


def counters(name: str, help_: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """Build a counter for each set of labels."""
    family = CounterMetricFamily(name, help_, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def histograms(name: str, help_: str, labels: Labels, values: Iterable[tuple[Labels, Histogram]]) -> Metric:
    """Build a histogram for each set of labels."""
    family = HistogramMetricFamily(name, help_, labels=labels)
    for of, histogram in values:
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        family.add_metric(of, list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total)
    return family


def histogram(name: str, help_: str, value: Histogram) -> Metric:
    """Build a histogram."""
    return histograms(name, help_, (), [((), value)])
