"""`GET /openapi.json`: the document, encoded once."""

from __future__ import annotations

import hashlib

from rqdisco.http.requests.api import Api
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.http.requests.runner import ApiRunner
from rqdisco.security.tokens import Token


class OpenAPIDocument(Api):
    """The document for one audience, encoded.

    Caches must revalidate it (RFC 9111 section 5.2.2.4): an update of the daemon changes it, and
    nothing notifies clients. Revalidation of an unchanged document has no body.
    """

    def __init__(self, content: bytes, runner: ApiRunner) -> None:
        super().__init__(runner)
        self._content = content
        self._tag = b'"%s"' % hashlib.sha256(self._content).hexdigest()[:32].encode()
        self._headers = ((b"etag", self._tag), (b"cache-control", b"no-cache"))

    async def show(self, request: Request, token: Token | None) -> Response:
        """Show the document."""
        if self._is_cached(request):
            return Response(304, self._content, b"Not Modified", self._headers)
        return Response(200, self._content, headers=self._headers)

    def _is_cached(self, request: Request) -> bool:
        """Report whether the client has the current document (RFC 9110 section 13.1.2)."""
        header = b",".join(request.headers_named(b"if-none-match"))
        tags = {tag.strip().removeprefix(b"W/") for tag in header.split(b",")}
        return self._tag in tags or b"*" in tags
