"""treq's StubTreq with type annotations: HTTP requests to a resource in memory."""

from __future__ import annotations

from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource


class InMemoryClient:
    """Send requests to `resource` without sockets; `flush` delivers what both sides have
    written.
    """

    def __init__(self, resource: IResource) -> None:
        self._stub: Any = StubTreq(resource)

    def request(self, method: str, url: str, **options: Any) -> Deferred[Any]:
        response: Deferred[Any] = self._stub.request(method, url, **options)
        return response

    def get(self, url: str) -> Deferred[Any]:
        return self.request("GET", url)

    def post(self, url: str, **options: Any) -> Deferred[Any]:
        return self.request("POST", url, **options)

    def content(self, response: Any) -> Deferred[bytes]:
        content: Deferred[bytes] = self._stub.content(response)
        return content

    def json_content(self, response: Any) -> Deferred[Any]:
        content: Deferred[Any] = self._stub.json_content(response)
        return content

    def flush(self) -> None:
        self._stub.flush()
