"""A connection to a server: HTTP/1.1 by llhttp, one request at a time. Every request passes here, so
this is written for little work per request.
"""

from __future__ import annotations

from typing import Any, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.http_client.interfaces import AnswerTooLarge, ConnectionBroken, NotSent, PostReply
from rqdisco.http_client.network import describe
from rqdisco.http_client.pending_post import PendingPost
from rqdisco.twisted_compat import write_at_once


class ConnectionListener(Protocol):
    """The owner of a connection. It learns that the connection can take its first request, that it
    can take the next one since the last was answered, and, once, why it is gone.
    """

    def established(self, connection: PooledConnection) -> None: ...

    def freed(self, connection: PooledConnection) -> None: ...

    def ended(self, connection: PooledConnection, why: Exception) -> None: ...


@implementer(IHandshakeListener)
class PooledConnection(TwistedProtocol):
    """A connection to a server. An answer has at most `max_answer` bytes; those of its headers are kept
    that `kept_headers` names, in lower case.
    """

    # A TCP or TLS transport: no interface declares what they have in common.
    transport: Any
    # When it became idle, and whether its request waits for others.
    idle_since = 0.0
    waits_for_others = False

    def __init__(self, max_answer: int, kept_headers: frozenset[bytes], listener: ConnectionListener) -> None:
        self._max_answer = max_answer
        self._kept_headers = kept_headers
        self._listener = listener
        self._pending: PendingPost | None = None
        self._is_established = self._is_ended = False
        # Of the answer that is received: its bytes so far, its headers, and the parts of its body.
        self._size = self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._is_complete = self._is_chunked = self._is_persistent = False
        self._parser = HttpResponseParser(self)

    # What the transport calls.

    def connectionMade(self) -> None:
        if not ISSLTransport.providedBy(self.transport):
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        self._is_established = True
        self._listener.established(self)

    def dataReceived(self, data: bytes) -> None:
        if self._pending is None:
            self.abort(ConnectionBroken("bytes that belong to no answer"))
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._is_persistent = False
            if not self._is_complete:
                self.abort(ConnectionBroken("the answer is not HTTP/1.1"))
                return
        if self._size > self._max_answer:
            self.abort(AnswerTooLarge(f"the answer is larger than {self._max_answer} bytes"))
        elif self._is_complete:
            self._finish(self._pending)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        text = describe(reason.value)
        if not self._is_established:
            self._end(NotSent(text))
        else:
            self._end(ConnectionBroken(f"{text} within the answer" if self._size else text))

    def send(self, pending: PendingPost) -> None:
        """Send a request. None may be in flight."""
        self._pending = pending
        self.waits_for_others = pending.waits_for_others
        pending.carrier = self
        write_at_once(self.transport, pending.request)

    def abort(self, why: Exception) -> None:
        """Close at once; the request in flight fails for this reason."""
        if not self._is_ended:
            # A transport may report the end at once, for a reason of its own.
            self._end(why)
            self.transport.abortConnection()

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self._is_complete:
            # Bytes behind an answer belong to none.
            self._is_persistent = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer and what is behind the answer come after the status.
        if not self._status and name.lower() in self._kept_headers:
            self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        if self._is_complete:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            # Another answer follows.
            self._status = 0
            self._headers.clear()

    def on_chunk_header(self) -> None:
        self._is_chunked = True

    def on_body(self, data: bytes) -> None:
        if not self._is_complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._status and not self._is_complete:
            self._is_complete = True
            self._is_persistent = self._parser.should_keep_alive()

    def _finish(self, pending: PendingPost) -> None:
        """Give the answer, after the connection has been freed for the next request."""
        parts = self._parts
        reply = PostReply(self._status, parts[0] if len(parts) == 1 else b"".join(parts), self._headers)
        self._pending = None
        self._size = self._status = 0
        self._headers = {}
        self._parts = []
        self._is_complete = False
        if self._is_chunked:
            # llhttp may have taken a trailer for a header that closes the connection.
            self._is_chunked = False
            self._parser = HttpResponseParser(self)
        if self._is_persistent:
            self._listener.freed(self)
        else:
            self.abort(ConnectionBroken("the server closes the connection"))
        pending.succeed(reply)

    def _end(self, why: Exception) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        pending, self._pending = self._pending, None
        self._listener.ended(self, why)
        if pending is not None:
            pending.fail(why)
