"""Metrics of the HTTP server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from rqdisco.http.server.site import Site
from rqdisco.telemetry.counters import RequestCounts
from rqdisco.telemetry.metric_families import counters, gauges, histograms
from rqdisco.telemetry.metrics import MetricSource

_EXPECTED_REFUSALS = [
    (api, label)
    for api in ("discovery", "consul", "operator")
    for label in ("disk", "etcd", "etcd_full", "etcd_denied", "frozen", "undecided", "too_late", "ownerless", "fault")
]


def request_metrics(counts: RequestCounts, refusals: Counter[tuple[str, str]]) -> MetricSource:
    """Metrics of requests and their responses."""

    def source() -> Iterable[Metric]:
        routes = [((*route, method), each) for (route, method), each in counts.by_route.items()]
        yield counters(
            "rqdisco_requests",
            "Answered HTTP requests.",
            ("api", "route", "method", "status"),
            (((*labels, str(status)), count) for labels, each in routes for status, count in each.statuses.items()),
        )
        yield histograms(
            "rqdisco_request_duration_seconds",
            "Seconds from a complete request to its answer.",
            ("api", "route", "method"),
            ((labels, each.seconds) for labels, each in routes),
        )
        yield counters(
            "rqdisco_requests_abandoned",
            "Requests whose client hung up before the answer.",
            ("api",),
            (((api,), count) for api, count in counts.abandoned.items()),
        )
        labeled = {**dict.fromkeys(_EXPECTED_REFUSALS, 0), **refusals}
        yield counters("rqdisco_refusals", "Refused requests, by reason.", ("api", "reason"), labeled.items())

    return source


def connection_metrics(sites: Mapping[str, Site]) -> MetricSource:
    """Metrics of connections."""

    def source() -> Iterable[Metric]:
        open_ = [((name,), len(site.connections)) for name, site in sites.items()]
        yield gauges("rqdisco_connections", "Open connections.", ("listener",), open_)

    return source
