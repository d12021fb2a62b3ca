"""Messages of peers over HTTP: a link and a listener with known keys and nonces, and the
bytes between them.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from rqdisco.backends.gossip.core.peer_errors import BadMessage, Misdirected, NotGreeted, PeerError, Rejected
from rqdisco.backends.gossip.transport.connections import peer_client
from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.http_client.interfaces import PostReply
from rqdisco.request_body import RequestBody
from tests.support.in_memory_http import InMemoryAgent
from tests.support.peer_links import Answering, ring

DIGEST = b'{"held":{"1a2b3c4d5e6f7081":1795000000001},"agreed":"01234567"}'
HELLO = (
    b'{"name":"a","incarnation":"1a2b3c4d5e6f7081","boot":"0011223344556677","url":"http://a:4003","protocol":[1,1]}'
)
# The verb, and what the handler answers.
STEPS: list[tuple[str, Any]] = [
    ("hello", Rejected("forgotten: the IDs of 1a2b3c4d5e6f7081 have another owner")),
    ("hello", BadMessage("not a member")),
    ("hello", b""),
    ("digest", DIGEST),
    ("digest", BadMessage("what?")),
    ("call", Misdirected("")),
    ("push", Rejected("drained")),
    ("barrier", DIGEST * 3),
    ("digest", NotGreeted()),
    ("hello", b""),
    ("digest", DIGEST),
]


class HTTPExchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer as they were on the wire, in Latin-1."""

    request: str
    response: str


class _Tee:
    """Passes data on to a protocol, and keeps it."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._protocol.dataReceived(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)


class TappedAgent(InMemoryAgent):
    """An agent whose connections can be read."""

    def __init__(self, resource: PeerResource) -> None:
        super().__init__(resource)
        self.tapped: list[tuple[_Tee, _Tee]] = []
        build = self._site.buildProtocol
        untyped: Any = self._site
        untyped.buildProtocol = lambda address: self._tap(_Tee(build(address)))

    def _tap(self, server: _Tee) -> _Tee:
        self._server = server
        return server

    def _connect(self, factory: Any, uri: Any) -> Any:
        client = _Tee(factory.buildProtocol(None))
        factory.buildProtocol = lambda _: client
        super()._connect(factory, uri)
        self.tapped.append((self._server, client))
        return client

    @property
    def exchanges(self) -> list[HTTPExchange]:
        """All that was sent so far; each request has a connection of its own."""
        return [
            HTTPExchange(request=server.data.decode("latin-1"), response=client.data.decode("latin-1"))
            for server, client in self.tapped
        ]


class Listener:
    """The listener of a daemon, whose handler answers as it is told."""

    def __init__(self) -> None:
        self.handler = Answering()
        self.resource = PeerResource(self.handler, Keys(ring(1)), Clock(), Random(1).randbytes)


class Fresh:
    """A client that sends each request over a connection of its own."""

    def __init__(self, agent: TappedAgent) -> None:
        self._agent = agent

    def post(self, *request: Any, waits_for_others: bool = False) -> Deferred[PostReply]:
        return peer_client(self._agent, Clock()).post(*request, waits_for_others=waits_for_others)


def talk() -> list[HTTPExchange]:
    """Send all steps, then the last request again; return the bytes."""
    listener = Listener()
    agent = TappedAgent(listener.resource)
    link = HTTPLink("http://b:4003", Fresh(agent), Keys(ring(1)), Random(2).randbytes)
    for verb, answer in STEPS:
        listener.handler.answer = answer
        sending = link.greet(HELLO, 2) if verb == "hello" else link.request(verb, DIGEST, 2)
        sending.addErrback(lambda failure: failure.trap(PeerError))
        for _ in range(5):
            agent.flush()
        assert sending.called
    last = parse(agent.exchanges[-1].request)
    headers = Headers({b"rqdisco-session": [last["rqdisco-session"].encode()]})
    for path in (b"/peers/1/digest", b"/peers/1/call", b"/peers/2/digest"):
        agent.request(b"POST", b"http://b:4003" + path, headers, RequestBody(DIGEST))
        agent.flush()
    return agent.exchanges


def parse(message: str) -> dict[str, str]:
    """Return the parts of an HTTP message that peers rely on: the first line, their own headers,
    and the body.
    """
    head, _, body = message.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    relevant = {
        name: value for name, value in headers.items() if name.startswith("rqdisco-") or name == "content-length"
    }
    return {"first": first, **relevant, "body": body}
