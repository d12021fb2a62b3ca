"""Writes responses to a transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.http.server.heads import encode_head, has_body
from rqdisco.twisted_compat import write_at_once

# The status line of every response begins with this.
_STATUS_PREFIX = b"HTTP/1.1 "
_CLOSE = b"Connection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ResponseWriter:
    """Writes the responses of one connection. `date` returns the value of the Date header."""

    # Any: no interface declares what TCP, TLS and UNIX transports have in common.
    def __init__(self, transport: Any, date: Callable[[], bytes]) -> None:
        self._transport = transport
        self._date = date
        self._has_prefix = False

    def send_prefix(self) -> None:
        """Send the first bytes of the next response, which all responses have in common."""
        self._has_prefix = True
        write_at_once(self._transport, _STATUS_PREFIX)

    def send_continue(self) -> None:
        """Ask the client for the body of its request."""
        self._transport.write(_CONTINUE)

    def send(self, request: Request, response: Response, *, closes: bool) -> None:
        """Send a whole response in one write."""
        head = encode_head(response, request.added, self._date(), _CLOSE if closes else b"", b"")
        if self._has_prefix:
            head = self._without_prefix(head)
        request.status = response.status
        write_at_once(self._transport, head + response.body if has_body(request.method, response.status) else head)

    def start(self, request: Request, response: Response, *, closes: bool) -> None:
        """Send the head of a response of unknown length, and the beginning of its body."""
        request.is_chunked = request.version == b"1.1" and has_body(request.method, response.status)
        framing = _CHUNKED if request.version == b"1.1" else b""
        unmeasured = replace(response, is_length_known=False)
        head = encode_head(unmeasured, request.added, self._date(), _CLOSE if closes else b"", framing)
        request.status = response.status
        self._transport.write(self._without_prefix(head) if self._has_prefix else head)
        request.write(response.body)

    def refuse(self, response: Response) -> None:
        """Send a response to what is not a request. The connection must be closed then."""
        self._transport.write(encode_head(response, None, self._date(), _CLOSE, b"") + response.body)

    def _without_prefix(self, head: bytes) -> bytes:
        self._has_prefix = False
        return head[len(_STATUS_PREFIX) :]
