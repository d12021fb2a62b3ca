"""Answer the requests for a path as the table of routes says: method, token, page, cost, body."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType

from rqdisco.core.errors import NoSuchID
from rqdisco.http.cross_site import is_cross_site
from rqdisco.http.operations import BodyLimit, Endpoint, Operation
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Refusal, Response
from rqdisco.http.requests.runner import EventualResponse, Handler
from rqdisco.http.routes.parts import PAGE_COST
from rqdisco.http.ui.accepting import prefers_html
from rqdisco.http.ui.pages import Pages
from rqdisco.telemetry.counters import Route

_READING = (b"GET", b"HEAD")
_CROSS_SITE_TEXT = "another site's page may not do this"
_CROSS_SITE = Refusal(403, _CROSS_SITE_TEXT, _CROSS_SITE_TEXT).as_json()


class NotFoundEndpoint:
    """Answers paths that do not exist."""

    def __init__(self, api: Api, pages: Pages, label: Route) -> None:
        self.label = label
        self._api = api
        self._pages = pages

    def max_body(self, request: Request) -> int:
        """Bodies are ignored."""
        return 0

    def cost(self, request: Request) -> float:
        """It costs as much as a lookup."""
        return 1.0

    def methods(self, *variable: str) -> None:
        """There are none."""

    def respond(self, request: Request, *variable: str) -> EventualResponse:
        """Refuse a request."""
        if request.method not in _READING and is_cross_site(request):
            return _CROSS_SITE
        handler = self._answer(request)
        if request.method in _READING and _prefers_page(request):
            handler = self._pages.explain(request, handler)
        return self._api.runner.run(handler)

    async def _answer(self, request: Request) -> Response:
        self._api.admit(request, self._api.not_found_right)
        raise self._api.no_such_path(request)


class _BoundOperation:
    """An operation of the table, bound to the APIs of a listener."""

    __slots__ = ("body", "cost", "handle", "is_creation", "is_public", "page", "right", "runs_to_end")

    def __init__(self, operation: Operation, api: Api, pages: Api) -> None:
        self.handle = MethodType(operation.handler, api)
        self.page = None if operation.page is None else MethodType(operation.page, pages)
        self.is_public = operation.right is None
        self.right = operation.right if api.requires_token and not operation.token_optional else None
        self.runs_to_end = operation.runs_to_end
        self.is_creation = operation.is_creation
        self.body = operation.body
        self.cost = operation.cost


class BoundEndpoint:
    """An endpoint of the table, bound to the APIs of a listener."""

    def __init__(self, endpoint: Endpoint, api: Api, pages: Pages, body_limits: Mapping[BodyLimit, int]) -> None:
        self.label = endpoint.label
        self._page_label = ("pages", endpoint.label[1])
        self._api = api
        self._runner = api.runner
        self._pages = pages
        self._body_limits = body_limits
        self._operations: dict[bytes, _BoundOperation] = {}
        for operation in endpoint.operations:
            bound = self._operations[operation.method.encode()] = _BoundOperation(operation, api, pages)
            if operation.method == "GET" and operation.has_head:
                self._operations[b"HEAD"] = bound
        self._allow = ", ".join(method.decode() for method in self._operations)
        # What a client needs to be told that a method does not exist.
        self._right = endpoint.operations[0].right if api.requires_token else None

    def max_body(self, request: Request) -> int:
        """Return the size of the largest body of a request: only admins import."""
        operation = self._operations.get(request.method)
        if operation is None or (operation.body == "import" and not self._api.is_admin(request)):
            return 0
        return self._body_limits[operation.body]

    def cost(self, request: Request) -> float:
        """Return what a request costs, in lookups."""
        operation = self._operations.get(request.method)
        if operation is None:
            return 1.0
        # HEAD renders no page.
        is_page = operation.page is not None and request.method == b"GET" and _prefers_page(request)
        return PAGE_COST if is_page else operation.cost

    def methods(self, *variable: str) -> str | None:
        """Return the methods, None if nothing can be at a path with this variable part."""
        try:
            self._api.check(*variable)
        except NoSuchID:
            return None
        return self._allow

    def respond(self, request: Request, *variable: str) -> EventualResponse:
        """Start the response to a request."""
        operation = self._operations.get(request.method)
        if request.method not in _READING and is_cross_site(request):
            return _CROSS_SITE
        handler: Handler
        if request.method in _READING and _prefers_page(request):
            if operation is not None and operation.page is not None:
                request.route = self._page_label
                page = operation.page(request, *variable)
                return self._pages.respond(request, page, is_public=operation.is_public)
            handler = self._pages.explain(request, self._answer(request, operation, *variable))
        else:
            handler = self._answer(request, operation, *variable)
        if operation is not None and operation.runs_to_end:
            return self._runner.run_to_end(handler)
        return self._runner.run(handler)

    async def _answer(self, request: Request, operation: _BoundOperation | None, *variable: str) -> Response:
        """Check in this order: token, path, method; the handler checks the rest."""
        right = self._right if operation is None else operation.right
        token = None if right is None else self._api.admit(request, right, *variable)
        if operation is None or not operation.is_creation:
            self._api.check(*variable)
        if operation is None:
            return await self._api.refuse_method(request, self._allow, *variable)
        response: Response = await operation.handle(request, *variable, token)
        return response


def _prefers_page(request: Request) -> bool:
    accept = request.header(b"accept")
    return accept is not None and b"text/html" in accept and prefers_html(accept.decode("latin-1"))
