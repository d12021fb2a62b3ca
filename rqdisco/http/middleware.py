"""Middleware shared by the public and the operator's listeners: refuses cross-site requests, and
serves pages and event streams.
"""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from rqdisco.http.api.event_streams import EventStreams, watched_id
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.leaf import LeafResource
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Refusal, refusal_of
from rqdisco.http.requests.runner import send, unsupported_method, write
from rqdisco.http.ui.pages import Pages

_READING = (b"GET", b"HEAD")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_SAME_SITE = (b"same-origin", b"none")
_CROSS_SITE = "another site's page may not do this"


class Middleware(LeafResource):
    """Passes a request to `streams` or `pages` if it is for them, else to `apis`.

    No page of another site can let a visitor's browser create, register or remove. Browsers send
    the site that a request originates from (Fetch Metadata; where that is missing, on plain HTTP,
    `Origin`, RFC 6454); other clients send neither. `authorizer` authorizes event streams.
    """

    def __init__(
        self, apis: IResource, streams: EventStreams, pages: Pages, authorizer: Authorizer | None = None
    ) -> None:
        super().__init__()
        self._apis = apis
        self._streams = streams
        self._pages = pages
        self._authorizer = authorizer

    def render(self, request: Request) -> object:
        if request.method in _READING:
            page = self._pages.respond(request)
            if page is not None:
                send(request, page)
                return NOT_DONE_YET
        elif is_cross_site(request):
            write(Refusal(403, _CROSS_SITE, _CROSS_SITE).as_json(), request)
            return NOT_DONE_YET
        elif self._pages.is_page_only(request.path):
            write(refusal_of(Failure(unsupported_method(request, "GET, HEAD"))).as_json(), request)
            return NOT_DONE_YET
        if b"/events" in request.path and watched_id(request.path) is not None:
            self._streams.open(request, self._authorizer)
            return NOT_DONE_YET
        return self._apis.render(request)


def is_cross_site(request: Request) -> bool:
    """Report whether a browser sent the request for a page of another site."""
    headers = request.requestHeaders
    if sites := headers.getRawHeaders(b"sec-fetch-site"):
        return sites[-1] not in _SAME_SITE
    origins = headers.getRawHeaders(b"origin")
    if not origins:
        return False
    return not is_own_origin(origins[-1], request.getHeader(b"host") or b"")


def is_own_origin(origin: bytes, host: bytes) -> bool:
    """Report whether an `Origin` (RFC 6454) names the site that `Host` names, with or without the
    default port of its scheme.

    The scheme itself is not compared: a proxy may have ended TLS.
    """
    scheme, separator, site = origin.lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    return bool(separator) and port is not None and site.removesuffix(port) == host.lower().removesuffix(port) != b""
