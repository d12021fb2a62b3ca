"""Metrics of health checks and host name resolution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from rqdisco.probes.scheduler import OUTCOMES, STATES, ProbeScheduler
from rqdisco.telemetry.counters import LookupCounts
from rqdisco.telemetry.metric_families import counters, gauge_if_known, gauges
from rqdisco.telemetry.metrics import Source


def probe_metrics(scheduler: ProbeScheduler) -> Source:
    """How the nodes are, as far as this daemon sees."""

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_probed_nodes",
            "Nodes by what their probes met; one that is registered several times counts once.",
            ("state",),
            (((state,), scheduler.states[state]) for state in STATES),
        )
        yield counters(
            "rqdisco_probes",
            "Probes of nodes, by what they met.",
            ("outcome",),
            (((outcome,), scheduler.outcomes[outcome]) for outcome in OUTCOMES),
        )
        yield gauge_if_known(
            "rqdisco_probe_round_seconds",
            "Seconds that the last look at all nodes took; more than --probe means that nodes are probed less often.",
            scheduler.lasted,
        )

    return source


def resolution_metrics(counts: Mapping[str, LookupCounts]) -> Source:
    """How the host names of nodes were looked up, by what for."""

    def source() -> Iterable[Metric]:
        yield counters(
            "rqdisco_lookups",
            "Look-ups of registered host names, by what came of them.",
            ("use", "outcome"),
            (((use, outcome), count) for use, each in counts.items() for outcome, count in each.outcomes.items()),
        )
        yield counters(
            "rqdisco_kept_addresses",
            "Times that older addresses of a host name were used, since looking it up fails or takes too long.",
            ("use",),
            (((use,), each.kept) for use, each in counts.items()),
        )

    return source
