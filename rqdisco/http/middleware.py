"""Middleware shared by the public and the operator's listeners: refuses cross-site requests, and
serves pages and event streams.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from rqdisco.http.api.event_streams import EventStreams, watched_id
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Refusal, refusal_of
from rqdisco.http.requests.runner import send, unsupported_method
from rqdisco.http.server.connection import Application
from rqdisco.http.ui.pages import Pages

_READING = (b"GET", b"HEAD")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_SAME_SITE = (b"same-origin", b"none")
_CROSS_SITE = "another site's page may not do this"


class Middleware:
    """Passes a request to `streams` or `pages` if it is for them, else to `apis`.

    No page of another site can let a visitor's browser create, register or remove. Browsers send
    the site that a request originates from (Fetch Metadata; where that is missing, on plain HTTP,
    `Origin`, RFC 6454); other clients send neither. `authorizer` authorizes event streams.
    """

    def __init__(
        self,
        apis: Application,
        streams: EventStreams,
        pages: Pages,
        max_body: Callable[[Request], int],
        authorizer: Authorizer | None = None,
    ) -> None:
        self.max_body = max_body
        self._apis = apis
        self._streams = streams
        self._pages = pages
        self._authorizer = authorizer

    def handle(self, request: Request) -> None:
        """Answer a request."""
        if request.method in _READING:
            page = self._pages.respond(request)
            if page is not None:
                send(request, page)
                return
        elif is_cross_site(request):
            request.respond(Refusal(403, _CROSS_SITE, _CROSS_SITE).as_json())
            return
        elif self._pages.is_page_only(request.path):
            request.respond(refusal_of(Failure(unsupported_method(request, "GET, HEAD"))).as_json())
            return
        if b"/events" in request.path and watched_id(request.path) is not None:
            self._streams.open(request, self._authorizer)
        else:
            self._apis.handle(request)


def is_cross_site(request: Request) -> bool:
    """Report whether a browser sent the request for a page of another site."""
    site = request.header(b"sec-fetch-site")
    if site is not None:
        return site not in _SAME_SITE
    origin = request.header(b"origin")
    if origin is None:
        return False
    return not is_own_origin(origin, request.header(b"host") or b"")


def is_own_origin(origin: bytes, host: bytes) -> bool:
    """Report whether an `Origin` (RFC 6454) names the site that `Host` names, with or without the
    default port of its scheme.

    The scheme itself is not compared: a proxy may have ended TLS.
    """
    scheme, separator, site = origin.lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    return bool(separator) and port is not None and site.removesuffix(port) == host.lower().removesuffix(port) != b""
