"""A client's connection: llhttp finds the requests in what it sends, one at a time."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.http.server.heads import BadHead, Framing
from rqdisco.http.server.interfaces import ConnectionSite, Hosts
from rqdisco.http.server.parser import Head, RequestParser
from rqdisco.http.server.response_writer import ResponseWriter
from rqdisco.twisted_compat import is_disconnecting, is_reset

RECEIVE_SECONDS = 10.0
# After a half-close, check at these delays whether the client has reset the connection; if not, it
# is still there.
RESET_SECONDS = (0.01, 0.25)
# A client that reads nothing of a response for this long is cut off.
SEND_SECONDS = 30.0
# A part ends with an empty line. A body may consist of them, each of which costs some microseconds.
_PARTS_PER_TURN = 100
_TLS_HANDSHAKE = b"\x16"
_NEVER = float("inf")
_INTERNAL_ERROR = Response(500, encode_object({"error": "internal error"}), b"internal error")
_FULL = Response(
    503, encode_object({"error": "too many connections"}), b"too many connections", ((b"retry-after", b"5"),)
)


@implementer(IHalfCloseableProtocol, IPushProducer)
class HTTPConnection(TwistedProtocol):
    """A connection with one deadline: to send the next request, to finish sending it, or to read a
    response. The site checks all connections once a second, which is cheaper than timers for each
    request.

    A connection has one request at a time, and starts at most one in each turn of the reactor. What
    a client sends behind it waits unparsed, and the socket is not read meanwhile.
    """

    # A TCP, TLS or UNIX transport: no interface declares what they have in common.
    transport: Any
    deadline = _NEVER
    client: str | None = None
    local_host: str | None = None
    knows_client = True
    is_secure = False
    _log = Logger()

    def __init__(self, site: ConnectionSite, hosts: Hosts | None = None) -> None:
        self._site = site
        # The hosts that its requests may address; None for any.
        self._hosts = hosts
        self._parser = RequestParser()
        # Received, and not parsed yet.
        self._input = b""
        # The request that is received or answered; and the number of those that have been started.
        self._request: Request | None = None
        self._started = 0
        self._is_answering = self._is_persistent = self._closes_after_stream = False
        self._is_ended = self._is_input_over = False
        self._is_client_slow = self._is_reading_paused = False
        self._next_turn: IDelayedCall | None = None
        self._reset_check: IDelayedCall | None = None

    # What the transport calls.

    def connectionMade(self) -> None:
        self.local_host = getattr(self.transport.getHost(), "host", None)
        self.is_secure = ISSLTransport.providedBy(self.transport)
        self._writer = ResponseWriter(self.transport, self._site.date)
        self.transport.registerProducer(self, True)
        self._set_deadline(self._site.idle_seconds)
        self.client = getattr(self.transport.getPeer(), "host", None)
        self._register(self._counted_host())

    def dataReceived(self, data: bytes) -> None:
        if self._is_ended:
            return
        if self._is_answering or self._input:
            self._input += data
            self._pause_reading()
            return
        self._parse(data)

    def readConnectionLost(self) -> None:
        """The client has half-closed. It may be waiting for its answer (RFC 9112 section 9.6), or it
        has gone; then its host resets the connection when the first bytes of an answer arrive.
        """
        self._is_input_over = True
        request = self._request
        if request is not None and request.stream is not None:
            # A client that follows a stream has no reason to half-close: it has gone.
            self.abort()
        elif request is not None and self._is_answering:
            if not request.status:
                self._writer.send_prefix()
            self._suspect_gone(request)
        elif not (self._input or (self._is_ended and self._next_turn is not None)):
            # Nothing waits to be started, and no refusal to be sent.
            self._close_after_write()

    def writeConnectionLost(self) -> None:
        self._close_after_write()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        request, self._request = self._request, None
        self._is_ended = True
        self._input = b""
        for call in (self._next_turn, self._reset_check):
            if call is not None:
                call.cancel()
        self._next_turn = self._reset_check = None
        if request is not None and self._is_answering:
            if request.stream is None:
                self._site.count_abandoned(request)
            request.abandon()
        self._site.remove(self)

    def pauseProducing(self) -> None:
        self._is_client_slow = True
        self._set_deadline(SEND_SECONDS)
        if self._request is not None and self._request.producer is not None:
            self._request.producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_client_slow = False
        if self._is_answering:
            self.deadline = _NEVER
        else:
            self._set_deadline(RECEIVE_SECONDS if self._is_receiving else self._site.idle_seconds)
        if self._request is not None and self._request.producer is not None:
            self._request.producer.resumeProducing()

    def stopProducing(self) -> None:
        if self._request is not None and self._request.producer is not None:
            self._request.producer.stopProducing()

    # What the site calls.

    @property
    def is_busy(self) -> bool:
        """Report whether the client waits for a response."""
        return self._is_answering

    @property
    def buffered(self) -> int:
        """The bytes kept of what the client sent and has not been started."""
        return len(self._input) + self._parser.kept

    @property
    def is_draining(self) -> bool:
        """Report whether the site is about to close."""
        return self._site.is_draining

    @property
    def is_closing(self) -> bool:
        """Report whether the connection closes as soon as everything written is sent."""
        return is_disconnecting(self.transport)

    @property
    def proxy(self) -> tuple[str | None, str | None] | None:
        """The addresses of a trusted proxy and of the daemon, None if no proxy is known."""
        return None

    def cut(self) -> None:
        """Close at once: gracefully if the connection is idle, with RST if a request or a response is
        in progress.
        """
        if self._is_answering or self._is_client_slow or self._is_receiving or self.is_closing:
            self.abort()
        else:
            # Over TLS, this waits for the client's last message.
            self._close_after_write()

    def abort(self) -> None:
        """Close at once, whatever is left to send."""
        self._is_ended = True
        self.transport.abortConnection()

    def drain(self, *, at_once: bool) -> None:
        """Finish the current request, then close. A client that has just connected may still send its
        first request, unless `at_once`.

        The request of a new connection may be in the kernel's buffer; closing then would reset the
        connection.
        """
        if not (at_once or self._started):
            return
        if not self._is_answering:
            if not self.is_closing:
                self._close_after_write()
        elif self._request is not None and self._request.stream is not None:
            self._request.stream.end()

    def start_next(self) -> None:
        """Start the next request that is waiting."""
        self._next_turn = None
        data, self._input = self._input, b""
        self._parse(data)

    # Receiving.

    @property
    def _is_receiving(self) -> bool:
        """Report whether a part of a request has been received."""
        return bool(self._input) or self._parser.is_receiving

    def _parse(self, data: bytes) -> None:
        """Parse up to the end of one request, and start it; what is behind it waits its turn."""
        had = self._started
        try:
            data = self._feed_some(data)
        except BadHead as error:
            self._refuse(error)
            return
        if self._is_ended:
            return
        self._input = data
        if data:
            self._pause_reading()
            if not self._is_answering:
                self._wait_for_turn()
        elif self._is_reading_paused:
            self._resume_reading()
        if self._started != had:
            return
        if self._is_input_over and not data:
            self._close_after_write()
        elif self._is_receiving:
            self.deadline = min(self.deadline, self._site.now() + RECEIVE_SECONDS)

    def _feed_some(self, data: bytes) -> bytes:
        """Parse up to the end of one request, or a part of it; return what is behind it. Raises
        BadHead.
        """
        had = self._started
        for _ in range(_PARTS_PER_TURN):
            if not data or self._started != had or self._is_ended:
                break
            data = self._feed(data)
        return data

    def _feed(self, data: bytes) -> bytes:
        """Parse the next part; return what is behind it. Raises BadHead."""
        parser = self._parser
        request = self._request
        if not self._started and data.startswith(_TLS_HANDSHAKE) and request is None and not parser.is_receiving:
            self._site.log_tls(self.client)
            self.abort()
            return b""
        data = parser.feed(data)
        if request is None:
            if parser.head is None:
                return data
            request = self._begin(parser.head)
            if parser.head.framing.expects_continue and not parser.is_complete and not data:
                self._answer_expectation(request, parser.head.framing)
                return data
        if parser.is_complete:
            # Whether the connection closes behind the answer depends on what is left.
            self._input = data
            self._start_request(request)
        return data

    def _begin(self, head: Head) -> Request:
        """Make a request whose head is complete."""
        request = self._request = Request(self, head.method, head.target, head.headers, head.version)
        self._is_persistent = head.keeps_alive
        request.max_body = self._parser.max_body = self._site.application.max_body(request)
        return request

    def _answer_expectation(self, request: Request, framing: Framing) -> None:
        """Ask for the body; if it would be refused, answer without it, and close (RFC 9110 section
        10.1.1).
        """
        if framing.length > request.max_body:
            self._is_persistent = False
            request.is_body_too_large = True
            self._start_request(request)
        else:
            self._writer.send_continue()

    def _refuse(self, error: BadHead) -> None:
        """Answer a request that breaks a rule, and close; a client that sends many waits."""
        self._request = None
        self._is_ended = True
        self._input = b""
        self._site.count_refused(error.status)
        if wait := self._site.refusal_delay(self.client):
            self._set_deadline(RECEIVE_SECONDS)
            self._next_turn = self._site.call_later(wait, lambda: self._send_refusal(error))
        else:
            self._send_refusal(error)

    def _send_refusal(self, error: BadHead) -> None:
        self._next_turn = None
        body = encode_object({"error": error.text})
        self._writer.refuse(Response(error.status, body, HTTPStatus(error.status).phrase.encode(), error.headers))
        self._close_after_write()

    # Answering.

    def _start_request(self, request: Request) -> None:
        request.body = self._parser.take_body()
        if len(request.body) > request.max_body:
            request.is_body_too_large = True
        self._is_answering = True
        self._started += 1
        self.deadline = _NEVER
        request.since = self._site.now()
        if self._is_input_over:
            self._suspect_gone(request)
        try:
            if self._hosts is None or self._hosts.admits(request):
                self._site.application.handle(request)
            else:
                self._hosts.refuse(request)
        except Exception:
            self.fail(request, Failure())

    def fail(self, request: Request, failure: Failure) -> None:
        """Log an unexpected exception, and answer 500 if nothing has been answered."""
        self._log.failure("request failed", failure)
        if request.is_gone or request.is_finished:
            return
        if request.status:
            self.abort()
        else:
            self.respond(request, _INTERNAL_ERROR)

    def respond(self, request: Request, response: Response) -> None:
        """Send a whole response."""
        closes = self._closes_after_response()
        self._writer.send(request, response, closes=closes)
        self._end_response(request, closes=closes)

    def start(self, request: Request, response: Response) -> None:
        """Send the head of a response of unknown length, and the beginning of its body."""
        # In HTTP/1.0 the end of the connection is the end of the body.
        self._closes_after_stream = self._closes_after_response() or request.version == b"1.0"
        self._writer.start(request, response, closes=self._closes_after_stream)

    def write(self, data: bytes) -> None:
        """Send a part of a response."""
        self.transport.write(data)

    def finish(self, request: Request) -> None:
        """End a response that was started."""
        self._end_response(request, closes=self._closes_after_stream or self.is_draining)

    def produce(self, producer: IPushProducer) -> None:
        """Pause the producer of a response if the client does not read."""
        if self._is_client_slow:
            producer.pauseProducing()

    def _closes_after_response(self) -> bool:
        return (
            not self._is_persistent
            or self._site.is_draining
            or (self._is_client_slow and not self._site.trusts_clients)
            or (self._is_input_over and not self._input)
        )

    def _end_response(self, request: Request, *, closes: bool) -> None:
        request.is_finished = True
        request.producer = None
        self._request = None
        self._is_answering = False
        now = self._site.now()
        self._site.count_answered(request, now)
        is_over = self._is_input_over and not self._input
        if closes or is_over or (self._is_client_slow and self._input and not self._site.trusts_clients):
            # A client that sends more requests without reading the responses would fill the memory
            # with them: this was its last one.
            self._close_after_write()
        elif self._input:
            self.deadline = now + (SEND_SECONDS if self._is_client_slow else RECEIVE_SECONDS)
            self._wait_for_turn()
        else:
            self.deadline = now + (SEND_SECONDS if self._is_client_slow else self._site.idle_seconds)

    # The connection.

    def _counted_host(self) -> str | None:
        """The host that the connection counts for in limits, None while it is not known."""
        return self.client

    def _register(self, host: str | None) -> None:
        """Take a place among the site's connections, or refuse the client if there is none."""
        if self._site.add(self, host):
            return
        if self.is_secure:
            # An answer would take a handshake.
            self.abort()
            return
        self._writer.refuse(_FULL)
        self._close_after_write()

    def _suspect_gone(self, request: Request) -> None:
        request.suspect_gone()
        if self._reset_check is None:
            self._await_reset(*RESET_SECONDS)

    def _await_reset(self, seconds: float, *more: float) -> None:
        """Look after `seconds` whether the client is gone, and again after `more`."""

        def look() -> None:
            self._reset_check = None
            if is_reset(self.transport):
                self.abort()
            elif more:
                self._await_reset(*more)
            elif self._request is not None:
                self._request.confirm_present()

        self._reset_check = self._site.call_later(seconds, look)

    def _wait_for_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._site.call_later(0, self.start_next)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self.is_closing:
            self._is_reading_paused = True
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        if not self.is_closing:
            self._is_reading_paused = False
            self.transport.resumeProducing()

    def _close_after_write(self) -> None:
        """Close as soon as everything written is sent."""
        self._is_ended = True
        self._input = b""
        if self.is_closing:
            return
        if not self._is_client_slow or self.deadline == _NEVER:
            self._set_deadline(SEND_SECONDS)
        # A transport whose producer is paused would not close.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._site.now() + seconds
