"""Finds the clients of requests that trusted proxies pass on."""

from __future__ import annotations

from rqdisco.http.requests.request import Request
from rqdisco.http.server.forwarded import TrustedProxies
from rqdisco.http.server.interfaces import Application


class ForwardedHeadersApplication:
    """Names the client of each request that comes from a trusted proxy, before `application`
    receives it. Where the proxy's headers do not name one, the client remains the proxy.
    """

    def __init__(self, application: Application, proxies: TrustedProxies) -> None:
        self._application = application
        self._proxies = proxies
        self.max_body = application.max_body

    def handle(self, request: Request) -> None:
        """Name the client, and pass the request on."""
        if request.client is not None and self._proxies.include(request.client):
            vias = b",".join(request.headers_named(b"via"))
            client = request.forwarded = self._proxies.client(
                request.headers_named(b"forwarded"),
                request.headers_named(b"x-forwarded-for"),
                vias.count(b",") + 1 if vias else 0,
            )
            if client.host is not None:
                request.client = client.host
        self._application.handle(request)
