"""Builds the APIs of a daemon, and the application of each of its listeners."""

from __future__ import annotations

from rqdisco.http.api.admin import OperatorAPI
from rqdisco.http.api.cluster_search import ClusterSearch
from rqdisco.http.api.clusters import ClustersAPI
from rqdisco.http.api.consul import ConsulAPI, with_consul_headers
from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.event_streams import EventsAPI, EventStreams
from rqdisco.http.api.health import HealthAPI
from rqdisco.http.api.metrics import MetricsAPI
from rqdisco.http.api.record_encoder import RecordEncoder
from rqdisco.http.context import HTTPContext
from rqdisco.http.openapi.document import encode_openapi
from rqdisco.http.openapi.page import OpenAPIDocument
from rqdisco.http.operations import Audience, BodyLimit
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.responses import Refusal
from rqdisco.http.requests.runner import ApiConfig, ApiRunner
from rqdisco.http.router import Router
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.http.ui.api_page import api_groups
from rqdisco.http.ui.assets import read_assets
from rqdisco.http.ui.pages import Pages, PageSources
from rqdisco.telemetry.answer_history import AnswerHistory

IMPORT_BYTES = 16 << 20


class Apis:
    """The applications of one daemon's HTTP listeners. They share a directory and the deadlines of
    requests.
    """

    def __init__(self, context: HTTPContext) -> None:
        self._context = context
        self._history = AnswerHistory(context.wall_us)
        self._creation_limit = CreationLimit(context.limits.create_rate, context.clock.seconds)
        self._assets = read_assets()
        max_body, strict = context.limits.max_body, context.limits.strict_addresses
        self._discovery = self._runner(ApiConfig(name="discovery", max_body=max_body, strict_addresses=strict))
        self._operator = self._runner(ApiConfig(name="operator", max_body=IMPORT_BYTES))
        self._pages = self._runner(ApiConfig(name="pages", max_body=0))
        self._consul = self._runner(
            ApiConfig(
                name="consul",
                max_body=max_body,
                strict_addresses=strict,
                format_refusal=Refusal.as_text,
                too_large=f"Request body too large, max size: {max_body} bytes",
                finish=with_consul_headers(context.directory),
            )
        )
        two_leaders = _no_two_leaders if context.leaders is None else context.leaders.of
        self._encoder = RecordEncoder(context.directory, self._history, context.node_health, two_leaders, context.judge)
        self._search = ClusterSearch(context.directory, context.judge, context.clock, context.wall_us)
        self.streams = EventStreams(context, self._encoder.watched)
        if context.leaders is not None:
            context.leaders.subscribe(self.streams.refresh)
        access = context.access
        authorizer = None if access is None else Authorizer(access, context.clock.seconds, context.telemetry)
        self._operators = self._router("operator", None)
        self._public = self._router("open" if authorizer is None else "guarded", authorizer)

    def public(self) -> Router:
        """The application of public listeners; the operator's API is included where tokens are
        required.
        """
        return self._public

    def operators(self) -> Router:
        """The application of the operator's listener, which needs no token."""
        return self._operators

    def _runner(self, config: ApiConfig) -> ApiRunner:
        return ApiRunner(config, self._context.telemetry, self._context.deadlines)

    def _router(self, audience: Audience, authorizer: Authorizer | None) -> Router:
        context, is_operators = self._context, audience == "operator"
        discovery = DiscoveryAPI(
            context,
            self._discovery,
            self._encoder,
            self._history,
            self._creation_limit,
            authorizer,
            explains=is_operators,
        )
        consul = ConsulAPI(context.directory, self._consul, self._history, self._creation_limit, authorizer)
        openapi = encode_openapi(audience)
        sources = PageSources(self._assets, self.streams, self._search, api_groups(openapi))
        pages = Pages(context, sources, self._pages, authorizer, is_operators=is_operators)
        apis: list[Api] = [
            discovery,
            EventsAPI(self.streams, self._discovery, authorizer),
            consul,
            pages,
            HealthAPI(context.health, self._discovery, authorizer),
            OpenAPIDocument(openapi, self._discovery),
        ]
        fallbacks: dict[str, Api] = {"": discovery, "v1": consul}
        if audience != "open":
            fallbacks["operator"] = OperatorAPI(
                context.directory, self._operator, context.clock, context.cluster_admin, context.backups, authorizer
            )
            apis.append(fallbacks["operator"])
            apis.append(ClustersAPI(self._search, self._operator, authorizer))
        if context.metrics is not None:
            apis.append(MetricsAPI(context.metrics, self._discovery))
        body_limits: dict[BodyLimit, int] = {"none": 0, "max-body": context.limits.max_body, "import": IMPORT_BYTES}
        return Router(
            audience,
            {type(api): api for api in apis},
            pages,
            fallbacks,
            body_limits,
            lambda: context.health.is_stopping,
        )


def _no_two_leaders(_: str) -> None:
    """Without a leader monitor no ID is known to have two leaders."""
