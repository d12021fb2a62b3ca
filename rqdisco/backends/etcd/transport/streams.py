"""Streams of JSON lines: watches, each over a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory

from rqdisco.http_client.interfaces import ConnectionBroken
from rqdisco.http_client.network import describe
from rqdisco.request_body import RequestBody
from rqdisco.twisted_compat import silence_client_connections

MAX_LINE = 16 << 20
# etcd sends the head of an answer with its first line, which says that a watch was created.
HEAD_SECONDS = 5.0


class AgentStreams:
    """Implements `transport.StreamTransport`. A line has at most `max_line` bytes."""

    def __init__(self, agent: IAgent, clock: IReactorTime, max_line: int = MAX_LINE) -> None:
        self._agent = agent
        self._clock = clock
        self._max_line = max_line

    def open(
        self, endpoint: str, path: str, body: bytes, token: str | None, received: Callable[[bytes], None]
    ) -> LineStream:
        """Open a stream, as `transport.StreamTransport` describes."""
        headers = Headers({"Content-Type": ["application/json"], "Grpc-Metadata-Hasleader": ["true"]})
        if token is not None:
            headers.setRawHeaders("Authorization", [token])
        # The Agent raises for names that no host can have.
        asked = maybeDeferred(self._agent.request, b"POST", f"{endpoint}{path}".encode(), headers, RequestBody(body))
        return LineStream(asked, self._clock, self._max_line, received)


def stream_agent(reactor: Any, network: IAgentEndpointFactory) -> IAgent:
    """Return the Agent of streams, which keeps no connections. treq, which would wrap it, refuses the
    addresses of IPv6.
    """
    pool = HTTPConnectionPool(reactor, persistent=False)
    silence_client_connections(pool)
    agent: IAgent = Agent.usingEndpointFactory(reactor, network, pool=pool)
    return agent


def _no_head(_: object, seconds: float) -> NoReturn:
    raise ConnectionBroken(f"no answer within {seconds:g} s")


class LineStream:
    """A stream that is being opened, or that is open."""

    def __init__(
        self, asked: Deferred[Any], clock: IReactorTime, max_line: int, received: Callable[[bytes], None]
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._lines = _Lines(max_line, received, self._end)
        self._is_over = False
        self._asked: Deferred[Any] | None = asked
        asked.addTimeout(HEAD_SECONDS, clock, _no_head).addCallbacks(self._begin, self._not_begun)

    def close(self) -> None:
        """End it; `done` fires."""
        if self._is_over:
            return
        self._end(None)
        if self._asked is not None:
            self._asked.cancel()
        else:
            self._lines.stop()

    def _begin(self, response: Any) -> None:
        self._asked = None
        if self._is_over:
            # The answer cannot be refused without its connection.
            self._lines.is_stopped = True
        response.deliverBody(self._lines)

    def _not_begun(self, failure: Failure) -> None:
        self._asked = None
        if isinstance(failure.value, ConnectionBroken):
            self._end(failure.value)
            return
        # The Agent does not tell whether anything was sent; of a watch it does not matter.
        causes = [reason.value for reason in getattr(failure.value, "reasons", None) or ()] or [failure.value]
        self._end(ConnectionBroken(describe(causes[0])))

    def _end(self, why: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if why is None:
            self.done.callback(None)
        else:
            self.done.errback(why)


class _Lines(Protocol):
    """Divides the body of an answer into lines."""

    # Twisted has no type for the transport of a body.
    transport: Any

    def __init__(self, max_line: int, received: Callable[[bytes], None], end: Callable[[Exception | None], None]):
        self.is_stopped = False
        self._max_line = max_line
        self._received = received
        self._end = end
        self._rest = bytearray()

    def connectionMade(self) -> None:
        if self.is_stopped:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._rest += first
        for part in others:
            line = bytes(self._rest)
            self._rest = bytearray(part)
            self._deliver(line)
        if len(self._rest) > self._max_line:
            self._end(ConnectionBroken(f"a line is longer than {self._max_line} bytes"))
            self.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            # An answer that is no stream has no line end.
            self._deliver(bytes(self._rest))
            self._end(None)
        else:
            self._end(ConnectionBroken("the connection ended"))

    def stop(self) -> None:
        """Close the connection, and deliver nothing more."""
        self.is_stopped = True
        self._rest.clear()
        self.transport.loseConnection()

    def _deliver(self, line: bytes) -> None:
        if line and not self.is_stopped:
            self._received(line)
