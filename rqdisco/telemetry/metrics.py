"""Metrics of the daemon as a whole: build, outcomes, reactor and audit log."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from rqdisco import __version__
from rqdisco.telemetry.audit import AuditLog
from rqdisco.telemetry.counters import Histogram
from rqdisco.telemetry.events import ON_BEHALF, OutcomeCounts
from rqdisco.telemetry.metric_families import counter, counters, gauge, gauges, histogram
from twisted import __version__ as twisted_version

MetricSource = Callable[[], Iterable[Metric]]
_GRANTS = {
    "granted": ("registration", "granted"),
    "again": ("registration", "again"),
    "claim": ("claim", "granted"),
    "claim_again": ("claim", "again"),
}
# Exported from the start, so that the first event shows as a rise and not as a new series.
_EXPECTED = (
    ("create", "created"),
    *(("registration", outcome) for outcome in ("granted", "again", "listed", "refused", "unavailable")),
    ("removal", "removed"),
    ("expiry", "expired"),
    ("claim", "granted"),
    ("claim", "again"),
    ("claim", "lost"),
)
_LABELS = {ON_BEHALF: "on_behalf"}


def build_metrics() -> Iterable[Metric]:
    """Report the versions that run."""
    labels = ("version", "python", "twisted")
    running = (__version__, platform.python_version(), twisted_version)
    yield gauges("rqdisco_build_info", "The running versions; always 1.", labels, [(running, 1)])


def outcome_metrics(counts: OutcomeCounts) -> MetricSource:
    """Build the source of metrics about changes."""

    def source() -> Iterable[Metric]:
        seen = {**dict.fromkeys(_EXPECTED, 0), **counts.by_kind}
        yield counters(
            "rqdisco_changes",
            "Attempts to change something, by outcome.",
            ("change", "outcome"),
            (((_label(change), _label(outcome)), count) for (change, outcome), count in seen.items()),
        )
        yield counters(
            "rqdisco_grants",
            "Bootstrap grants: granted, granted again within the retry window, or a claim won or won again.",
            ("kind",),
            (((kind,), counts.by_kind[of]) for kind, of in _GRANTS.items()),
        )

    return source


def reactor_metrics(late: Histogram) -> MetricSource:
    """Build the source of metrics about the delay of the reactor."""

    def source() -> Iterable[Metric]:
        yield histogram("rqdisco_reactor_delay_seconds", "Seconds by which a timer of 100 ms is late.", late)

    return source


def audit_metrics(log: AuditLog) -> MetricSource:
    """Build the source of metrics about the audit log."""

    def source() -> Iterable[Metric]:
        yield counter("rqdisco_audit_lines", "Lines written to the audit log.", log.written)
        yield counter("rqdisco_audit_lost_lines", "Lines of the audit log that were lost.", log.lost)
        yield gauge("rqdisco_audit_failing", "1 if the last write to the audit log failed.", log.is_failing)

    return source


def _label(text: str) -> str:
    return _LABELS.get(text, text).replace(" ", "_")
