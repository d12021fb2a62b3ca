"""`GET /metrics`: all metrics in Prometheus' text format."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rqdisco.http.requests.leaf import LeafResource
from rqdisco.telemetry.counters import Route
from rqdisco.telemetry.metrics import Source

PATH = b"/metrics"
ROUTE: Route = ("metrics", "/metrics")


class _Daemon(Collector):
    """What the parts of a daemon say of themselves."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources

    def collect(self) -> list[Metric]:
        return [family for source in self._sources for family in source()]

    def describe(self) -> list[Metric]:
        """Nothing: to be registered does not need it, and the sources may not be ready."""
        return []


class MetricsPage(LeafResource):
    """The page, made anew for each request from what `sources` say; those may be added to."""

    def __init__(self, sources: list[Source]) -> None:
        super().__init__()
        self.sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(_Daemon(sources))
        ProcessCollector(registry=self._registry)

    def render(self, request: Any) -> bytes:
        if request.path != PATH:
            return _put(request, 404, b"nothing but /metrics is answered here\n")
        request.route = ROUTE
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _put(request, 405, b"method not allowed\n")
        return _put(request, 200, generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)


def _put(request: Any, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type.encode())
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    return b"" if request.method == b"HEAD" else body
