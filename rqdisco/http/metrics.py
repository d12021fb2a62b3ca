"""Metrics of the HTTP server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from rqdisco.http.server.site import BoundedSite
from rqdisco.telemetry.counters import RequestCounts
from rqdisco.telemetry.metric_families import counters, gauges, histograms
from rqdisco.telemetry.metrics import Source

_EXPECTED_REFUSALS = [
    (api, reason)
    for api in ("discovery", "consul", "operator")
    for reason in ("disk", "undecided", "too_late", "ownerless", "fault")
]


def request_metrics(counts: RequestCounts, refusals: Counter[tuple[str, str]]) -> Source:
    """What was asked over HTTP, and how it was answered."""

    def source() -> Iterable[Metric]:
        asked = [((*route, method), each) for (route, method), each in counts.by_route.items()]
        yield counters(
            "rqdisco_requests",
            "Requests over HTTP that were answered.",
            ("api", "route", "method", "status"),
            (((*of, str(status)), count) for of, each in asked for status, count in each.statuses.items()),
        )
        yield histograms(
            "rqdisco_request_duration_seconds",
            "Seconds from a request that has arrived whole to its answer.",
            ("api", "route", "method"),
            ((of, each.seconds) for of, each in asked),
        )
        yield counters(
            "rqdisco_requests_abandoned",
            "Requests whose client was gone before they were answered.",
            ("api",),
            (((api,), count) for api, count in counts.abandoned.items()),
        )
        seen = {**dict.fromkeys(_EXPECTED_REFUSALS, 0), **refusals}
        yield counters("rqdisco_refusals", "Requests that were refused, and for what.", ("api", "reason"), seen.items())

    return source


def connection_metrics(sites: Mapping[str, BoundedSite]) -> Source:
    """Who is connected."""

    def source() -> Iterable[Metric]:
        open_ = [((name,), len(site.channels)) for name, site in sites.items()]
        yield gauges("rqdisco_connections", "Connections that are open.", ("listener",), open_)

    return source
