"""Metrics of the health of clusters, health checks and host name resolution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from rqdisco.core.verdicts import Health
from rqdisco.probes.health_counter import HealthCounter
from rqdisco.probes.scheduler import OUTCOMES, STATES, ProbeScheduler
from rqdisco.telemetry.counters import LookupCounts
from rqdisco.telemetry.metric_families import counters, gauge_if_known, gauges
from rqdisco.telemetry.metrics import MetricSource


def probe_metrics(scheduler: ProbeScheduler) -> MetricSource:
    """Return the metrics of the health checks."""

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_probed_nodes",
            "Nodes by state; a node registered several times counts once.",
            ("state",),
            (((state,), scheduler.states[state]) for state in STATES),
        )
        yield counters(
            "rqdisco_probes",
            "Probes of nodes by outcome.",
            ("outcome",),
            (((outcome,), scheduler.outcomes[outcome]) for outcome in OUTCOMES),
        )
        yield gauge_if_known(
            "rqdisco_probe_round_seconds",
            "Duration of the last round over all nodes; above --probe, nodes are probed less often.",
            scheduler.round_seconds,
        )

    return source


def health_metrics(counter: HealthCounter) -> MetricSource:
    """Return the metric of the health of clusters."""

    def source() -> Iterable[Metric]:
        counts = counter.counts
        yield gauges(
            "rqdisco_clusters",
            "Discovery IDs by the verdict on their clusters, when last counted.",
            ("health",),
            () if counts is None else (((each.replace(" ", "_"),), counts[each]) for each in Health),
        )

    return source


def resolution_metrics(counts: Mapping[str, LookupCounts]) -> MetricSource:
    """Return the metrics of host name lookups, by use."""

    def source() -> Iterable[Metric]:
        yield counters(
            "rqdisco_lookups",
            "Lookups of registered host names by outcome.",
            ("use", "outcome"),
            (((use, outcome), count) for use, each in counts.items() for outcome, count in each.outcomes.items()),
        )
        yield counters(
            "rqdisco_kept_addresses",
            "Uses of stale addresses of a host name, because its lookup failed or took too long.",
            ("use",),
            (((use,), each.kept) for use, each in counts.items()),
        )

    return source
