"""What stands before all doors of a site: keeps foreign pages out, and knows people and watchers
from other clients.
"""

from __future__ import annotations

from typing import Any

from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.http.api.event_streams import EventStreams, watched_id
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.responses import Response
from rqdisco.http.requests.runner import method_of, send, write
from rqdisco.http.ui.pages import Pages

_READING = (b"GET", b"HEAD")
_OWN = (b"same-origin", b"none")
_FOREIGN = "another site's page may not do this"


class Middleware(Resource):
    """Hands a request to `streams` or `pages` if it is for them, else to the doors behind.

    No page of another site may have a visitor's browser mint, register or remove. Browsers say from
    where they were made to ask (Fetch Metadata; where that is missing, on plain HTTP, `Origin`, RFC
    6454); other clients say neither. `authorizer` asks for tokens, if there is one.
    """

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(
        self, apis: IResource, streams: EventStreams, pages: Pages, authorizer: Authorizer | None = None
    ) -> None:
        super().__init__()
        self._apis = apis
        self._streams = streams
        self._pages = pages
        self._authorizer = authorizer

    def render(self, request: Any) -> Any:
        if request.method in _READING:
            page = self._pages.answer(request)
            if page is not None:
                send(request, page)
                return NOT_DONE_YET
        elif is_foreign(request):
            write(Response(403, encode_object({"error": _FOREIGN}), _FOREIGN.encode()), request)
            return NOT_DONE_YET
        elif self._pages.is_only_here(request.path):
            text = f'unsupported method "{method_of(request)}"'
            allow = ((b"allow", b"GET, HEAD"),)
            write(Response(405, encode_object({"error": text}), b"Method Not Allowed", allow), request)
            return NOT_DONE_YET
        if b"/events" in request.path and watched_id(request.path) is not None:
            self._streams.open(request, self._authorizer)
            return NOT_DONE_YET
        return self._apis.render(request)


def is_foreign(request: Any) -> bool:
    """Whether a browser asks on behalf of a page that is not this service's own."""
    headers: Headers = request.requestHeaders
    if sites := headers.getRawHeaders(b"sec-fetch-site"):
        return sites[-1] not in _OWN
    origins = headers.getRawHeaders(b"origin")
    if not origins:
        return False
    return origins[-1].partition(b"://")[2].lower() != (request.getHeader(b"host") or b"").lower()
