"""`GET /openapi.json`: the document, as bytes that were made once."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.python.failure import Failure

from rqdisco.http.openapi.document import encode_openapi
from rqdisco.http.openapi.parts import Audience
from rqdisco.http.requests.leaf import LeafResource
from rqdisco.http.requests.responses import MethodNotAllowed, Response
from rqdisco.http.requests.runner import ApiRunner, method_of

NAME = b"openapi.json"


class OpenAPIPage(LeafResource):
    """The document for one kind of listener.

    It may be kept, but is to be asked for again each time, which costs a line as long as it is the
    same (RFC 9111 section 5.2.2.4): an update of the daemon changes it, and nothing tells clients.
    """

    def __init__(self, audience: Audience, runner: ApiRunner) -> None:
        super().__init__()
        self._runner = runner
        self._content = encode_openapi(audience)
        self._tag = b'"%s"' % hashlib.sha256(self._content).hexdigest()[:32].encode()
        self._headers = ((b"etag", self._tag), (b"cache-control", b"no-cache"))

    def render(self, request: Any) -> bytes:
        if request.method not in (b"GET", b"HEAD"):
            error = MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET, HEAD")
            return self._runner.refuse(Failure(error)).put_on(request)
        if self._is_known(request):
            return Response(304, self._content, b"Not Modified", self._headers).put_on(request)
        return Response(200, self._content, headers=self._headers).put_on(request)

    def _is_known(self, request: Any) -> bool:
        """Whether the client has it already (RFC 9110 section 13.1.2)."""
        given = b",".join(request.requestHeaders.getRawHeaders(b"if-none-match", ()))
        tags = {each.strip().removeprefix(b"W/") for each in given.split(b",")}
        return self._tag in tags or b"*" in tags
