"""Prometheus metrics of the DNS server."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.telemetry.counters import DNSCounts
from rqdisco.telemetry.metric_families import counter, counters, histogram
from rqdisco.telemetry.metrics import MetricSource

_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}


def dns_metrics(counts: DNSCounts) -> MetricSource:
    """Return the metrics of the DNS server."""

    def source() -> Iterable[Metric]:
        yield counters(
            "rqdisco_dns_answers",
            "DNS responses by transport and RCODE.",
            ("transport", "rcode"),
            (((transport, _RCODES.get(code, str(code))), count) for (transport, code), count in counts.answers.items()),
        )
        yield histogram(
            "rqdisco_dns_answer_duration_seconds", "Seconds from a DNS query to its response.", counts.seconds
        )
        yield counter("rqdisco_dns_limited", "Rate-limited UDP queries, which were redirected to TCP.", counts.limited)

    return source
