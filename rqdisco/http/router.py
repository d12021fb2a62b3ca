"""The application of a listener: find the endpoint of a path in the table of routes, and let it answer."""

from __future__ import annotations

import encodings.idna  # noqa: F401, werkzeug needs it and may import it when no file can be opened
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from klein import Klein
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, PathConverter, ValidationError

from rqdisco.core.ids import RESERVED_IDS
from rqdisco.http.cross_site import is_cross_site
from rqdisco.http.endpoints import BoundEndpoint, NotFoundEndpoint
from rqdisco.http.operations import Audience, BodyLimit
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Refusal, Response
from rqdisco.http.requests.runner import EventualResponse, send
from rqdisco.http.routes import ENDPOINTS
from rqdisco.http.ui.pages import Pages

_STOPPING = Refusal(503, "the daemon is stopping", "the daemon is stopping").as_json()
# Those of any path, for `OPTIONS *`.
_METHODS = "GET, HEAD, POST, PUT, DELETE"
_HEALTH = {b"healthz": "/healthz", b"readyz": "/readyz"}
_RESERVED = frozenset(name.encode() for name in RESERVED_IDS)
_SLASHES = re.compile("/+")
# Slashes in a key count, also doubled ones.
_BEFORE_KEY = re.compile("/+v1/+kv/(?=.)", re.DOTALL)


class _IDConverter(BaseConverter):
    """A segment that is no reserved name."""

    def to_python(self, value: str) -> str:
        if value in RESERVED_IDS:
            raise ValidationError
        return value


class _KeyConverter(PathConverter):
    """The rest of a path, whatever it begins with."""

    regex = "(?s:.+)"
    part_isolating = False


# Any: Klein declares other requests and results.
@cache
def _application(paths: tuple[str, ...]) -> Any:
    """Return the Klein application of some paths, which are the names of its endpoints. Compiling
    them takes longer than everything else that starts a daemon's APIs.
    """
    klein: Any = Klein()
    klein.url_map.merge_slashes = False
    klein.url_map.converters = {**klein.url_map.converters, "id": _IDConverter, "key": _KeyConverter}
    for path in paths:
        klein.route(path, endpoint=path, strict_slashes=False)(_respond)
    return klein


def _respond(request: Request, endpoint: BoundEndpoint, *variable: str) -> EventualResponse:
    return endpoint.respond(request, *variable)


class Router:
    """The application of one listener.

    `apis` has the APIs that the table names, by type: paths of others do not exist. `fallbacks` are the
    APIs that refuse unknown paths, by the first segment; "" is that of all other paths.
    `body_limits` are in bytes. `is_stopping` reports whether the daemon is about to stop.

    What nodes and load balancers request is matched by a few lines, which take a tenth of the time
    that werkzeug's matcher takes.
    """

    def __init__(
        self,
        audience: Audience,
        apis: Mapping[type[Api], Api],
        pages: Pages,
        fallbacks: Mapping[str, Api],
        body_limits: Mapping[BodyLimit, int],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._is_stopping = is_stopping
        found = {
            endpoint.path: BoundEndpoint(endpoint, apis[endpoint.api], pages, body_limits)
            for endpoint in ENDPOINTS
            if audience in endpoint.audiences and endpoint.api in apis
        }
        self._service = _Match(found.pop("/"))
        self._record = found.pop("/<id:discovery_id>")
        self._leader_key = found.pop("/v1/kv/<id:discovery_id>/leader")
        self._health = {name: _Match(found.pop(path)) for name, path in _HEALTH.items()}
        self._not_found = {
            name.encode(): _Match(NotFoundEndpoint(api, pages, (api.runner.api, "other")))
            for name, api in fallbacks.items()
            if name
        }
        self._unknown_id = _Match(NotFoundEndpoint(fallbacks[""], pages, self._record.label))
        self._others = found
        self._klein = _application(tuple(found))
        self._routes = self._klein.url_map.bind("localhost")

    def max_body(self, request: Request) -> int:
        """Find the route of a request, whose head is complete; return the size of the largest body
        that it may have.
        """
        match = request.handler = self._find(request.path)
        request.route = match.endpoint.label
        return match.endpoint.max_body(request)

    def cost(self, request: Request) -> float:
        """Return what is known of the cost of a request before it is handled, in lookups."""
        return self._match_of(request).endpoint.cost(request)

    def handle(self, request: Request) -> None:
        """Answer a request."""
        match = request.handler
        if not isinstance(match, _Match):
            match = self._find(request.path)
        endpoint = match.endpoint
        if request.method == b"OPTIONS":
            response = self._answer_options(request, match)
        elif match.klein_name is None:
            response = endpoint.respond(request, *match.variable)
        else:
            response = self._klein.execute_endpoint(match.klein_name, request, endpoint, *match.variable)
        send(request, response)

    def _answer_options(self, request: Request, match: _Match) -> EventualResponse:
        """Answer without a token: load balancers send OPTIONS, and the answer is about no ID."""
        methods = _METHODS if request.target == b"*" else match.endpoint.methods(*match.variable)
        if methods is None or is_cross_site(request):
            return match.endpoint.respond(request, *match.variable)
        if self._is_stopping():
            return _STOPPING
        return Response(204, b"", b"No Content", ((b"allow", f"{methods}, OPTIONS".encode()),))

    def _match_of(self, request: Request) -> _Match:
        match = request.handler
        return match if isinstance(match, _Match) else self._find(request.path)

    def _find(self, path: bytes) -> _Match:
        """The route of a path, without its query."""
        if b"%" not in path:
            segments = path.split(b"/")
            name = segments[1]
            if len(segments) == 2:
                if not name:
                    return self._service
                if name not in _RESERVED:
                    return _Match(self._record, (name.decode("utf-8", "replace"),))
                if name in self._health:
                    return self._health[name]
            elif name == b"v1" and (discovery_id := _id_in_key(segments)) is not None:
                return _Match(self._leader_key, (discovery_id,))
        return self._find_normalized(path)

    def _find_normalized(self, path: bytes) -> _Match:
        """The route of a path with escapes, more slashes than it needs, or a rare one."""
        first, slash, _ = path.lstrip(b"/").partition(b"/")
        not_found = self._not_found.get(first) if slash else None
        try:
            text = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return not_found or self._unknown_id
        name = text.strip("/")
        if not name:
            return self._unknown_id
        if b"%" not in first:
            # An escape in the first segment leads into no API.
            match = self._match_decoded(_BEFORE_KEY.sub("/v1/kv/", text, 1), name)
            if match is not None:
                return match
        return not_found or _Match(self._record, (name,))

    def _match_decoded(self, text: str, name: str) -> _Match | None:
        """The route of a decoded path, None if only that of an ID is left."""
        health = self._health.get(name.encode())
        if health is not None:
            return health
        if not text.startswith("/v1/kv/"):
            text = "/" + _SLASHES.sub("/", name)
        elif (discovery_id := _id_in_key(text.encode().split(b"/"))) is not None:
            return _Match(self._leader_key, (discovery_id,))
        try:
            path, arguments = self._routes.match(text)
        except HTTPException:
            return None
        return _Match(self._others[path], tuple(arguments.values()), path)


# With `gc=False` no router would ever be freed, since it is part of cycles.
class _Match(msgspec.Struct, frozen=True):
    """The endpoint of a path, the variable part of the path if there is one, and the endpoint's
    name if Klein runs it.
    """

    endpoint: BoundEndpoint | NotFoundEndpoint
    variable: tuple[str, ...] = ()
    klein_name: str | None = None


def _id_in_key(segments: list[bytes]) -> str | None:
    """The ID in `/v1/kv/ID/leader`, a path that was split at slashes; None for other keys."""
    if len(segments) == 5 and segments[2] == b"kv" and segments[3] and segments[4] == b"leader":
        return segments[3].decode("utf-8", "replace")
    return None
