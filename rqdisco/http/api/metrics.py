"""`GET /metrics`: all metrics in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rqdisco.http.requests.api import Api
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import TEXT_PLAIN, Response
from rqdisco.http.requests.runner import ApiRunner
from rqdisco.security.tokens import Token
from rqdisco.telemetry.counters import Route
from rqdisco.telemetry.metrics import MetricSource

NAME = b"metrics"
ROUTE: Route = ("metrics", "/metrics")


class _SourceCollector(Collector):
    """Collects the metrics of all sources."""

    def __init__(self, sources: list[MetricSource]) -> None:
        self._sources = sources

    def collect(self) -> list[Metric]:
        return [family for source in self._sources for family in source()]

    def describe(self) -> list[Metric]:
        """Nothing: registration does not need it, and the sources may not be ready."""
        return []


class MetricsPage:
    """The metrics page, generated for each request from `sources`, a list that may grow."""

    def __init__(self, sources: list[MetricSource]) -> None:
        self.sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(_SourceCollector(sources))
        ProcessCollector(registry=self._registry)

    def max_body(self, _: Request) -> int:
        """Bodies are ignored."""
        return 0

    def handle(self, request: Request) -> None:
        """Answer a request."""
        request.respond(self.response(request))

    def response(self, request: Request) -> Response:
        """Return the response to a request for any path."""
        if request.path.strip(b"/") != NAME:
            body = b"nothing but /metrics is answered here\n"
            return Response(404, body, b"Not Found", content_type=TEXT_PLAIN)
        request.route = ROUTE
        if request.method not in (b"GET", b"HEAD"):
            allow = ((b"allow", b"GET, HEAD"),)
            return Response(405, b"method not allowed\n", b"Method Not Allowed", allow, TEXT_PLAIN)
        return Response(200, generate_latest(self._registry), content_type=CONTENT_TYPE_PLAIN_0_0_4.encode())


class MetricsAPI(Api):
    """The same page on the operator's listener."""

    def __init__(self, page: MetricsPage, runner: ApiRunner) -> None:
        super().__init__(runner)
        self._page = page

    async def show(self, request: Request, token: Token | None) -> Response:
        """Show all metrics."""
        return self._page.response(request)

    async def refuse_method(self, request: Request, allow: str, variable: str | None = None) -> Response:
        return self._page.response(request)
