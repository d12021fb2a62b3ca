"""Selects the API of a request by its path, and builds the applications of a daemon's listeners."""

from __future__ import annotations

from collections.abc import Mapping

from rqdisco.http.api.admin import OperatorAPI
from rqdisco.http.api.consul import ConsulAPI, with_consul_headers
from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.event_streams import EventStreams
from rqdisco.http.api.health import HealthAPI
from rqdisco.http.api.record_encoder import RecordEncoder
from rqdisco.http.context import HTTPContext
from rqdisco.http.middleware import Middleware
from rqdisco.http.openapi.page import NAME, OpenAPIPage
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Refusal
from rqdisco.http.requests.runner import ApiConfig, ApiRunner
from rqdisco.http.server.connection import Application
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.http.ui.assets import read_assets
from rqdisco.http.ui.pages import Pages
from rqdisco.telemetry.answer_history import AnswerHistory

IMPORT_BYTES = 16 << 20


class Router:
    """Passes a request to the API that the first segment of its path names, if a slash follows; to
    the page that it names, if nothing follows; else to `rest`.
    """

    def __init__(
        self, apis: Mapping[bytes, Application], pages: Mapping[bytes, Application], rest: Application
    ) -> None:
        self._apis = apis
        self._pages = pages
        self._rest = rest

    def max_body(self, _: Request) -> int:
        """APIs check their bodies themselves."""
        return 0

    def handle(self, request: Request) -> None:
        """Pass a request on."""
        name, slash, remainder = request.path.lstrip(b"/").partition(b"/")
        if slash and name in self._apis:
            api = self._apis[name]
        else:
            api = self._rest if remainder.strip(b"/") else self._pages.get(name, self._rest)
        api.handle(request)


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
        self._encoder = RecordEncoder(context.directory, self._history, context.node_health, two_leaders)
        self.streams = EventStreams(context, self._discovery, self._encoder.watched)
        if context.leaders is not None:
            context.leaders.subscribe(self.streams.refresh)
        self._authorizer = (
            None if context.access is None else Authorizer(context.access, context.clock.seconds, context.telemetry)
        )
        self._operators = self._operators_site()
        self._public = self._public_site(self._authorizer)

    def public(self) -> Application:
        """The application of public listeners; the operator's API is included where tokens are
        required.
        """
        return self._public

    def operators(self) -> Application:
        """The application of the operator's listener, which needs no token."""
        return self._operators

    def _max_body(self, request: Request) -> int:
        """The largest body of a request to a public listener: an admin may import."""
        if self._authorizer is not None and request.path.lstrip(b"/").startswith(b"operator"):
            return IMPORT_BYTES if self._authorizer.lets_administer(request) else self._context.limits.max_body
        return self._context.limits.max_body

    def _runner(self, config: ApiConfig) -> ApiRunner:
        return ApiRunner(config, self._context.telemetry, self._context.deadlines)

    def _operators_site(self) -> Application:
        pages: dict[bytes, Application] = {
            **HealthAPI(self._context.health, self._discovery).applications(),
            NAME: OpenAPIPage("operator", self._discovery),
        }
        if self._context.metrics is not None:
            pages[b"metrics"] = self._context.metrics
        apis = {b"operator": self._operator_api(None), b"v1": self._consul_api(None)}
        router = Router(apis, pages, self._discovery_api(None, explains=True))
        return Middleware(router, self.streams, self._html_pages(None, is_operators=True), lambda _: IMPORT_BYTES)

    def _public_site(self, authorizer: Authorizer | None) -> Application:
        pages: dict[bytes, Application] = {
            **HealthAPI(self._context.health, self._discovery, authorizer).applications(),
            NAME: OpenAPIPage("open" if authorizer is None else "guarded", self._discovery),
        }
        apis = {b"v1": self._consul_api(authorizer)}
        if authorizer is not None:
            apis[b"operator"] = self._operator_api(authorizer)
        router = Router(apis, pages, self._discovery_api(authorizer))
        streams_authorizer = None if authorizer is None else authorizer.for_api(self._discovery.api)
        return Middleware(router, self.streams, self._html_pages(authorizer), self._max_body, streams_authorizer)

    def _discovery_api(self, authorizer: Authorizer | None, *, explains: bool = False) -> Application:
        return DiscoveryAPI(
            self._context,
            self._discovery,
            self._encoder,
            self._history,
            self._creation_limit,
            authorizer,
            explains=explains,
        ).application()

    def _consul_api(self, authorizer: Authorizer | None) -> Application:
        directory = self._context.directory
        return ConsulAPI(directory, self._consul, self._history, self._creation_limit, authorizer).application()

    def _operator_api(self, authorizer: Authorizer | None) -> Application:
        context = self._context
        api = OperatorAPI(context.directory, self._operator, context.clock, context.cluster_admin, authorizer)
        return api.application()

    def _html_pages(self, authorizer: Authorizer | None, *, is_operators: bool = False) -> Pages:
        return Pages(self._context, self._assets, self._pages, self.streams, authorizer, is_operators=is_operators)


def _no_two_leaders(_: str) -> None:
    """Without a leader monitor no ID is known to have two leaders."""
