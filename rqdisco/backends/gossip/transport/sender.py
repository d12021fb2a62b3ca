"""Sends messages to peers, over one link to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.messages import CALL_BATCHES, Hello, encode_message
from rqdisco.backends.gossip.transport.call_batches import CallSender
from rqdisco.backends.gossip.transport.coding import ANSWERS
from rqdisco.backends.gossip.transport.links import Link

_MOST_LINKS = 64


class _Way:
    """The link to a peer, and its sender of requests that may travel together. It `takes_batches` if
    its last hello said so.
    """

    __slots__ = ("calls", "link", "takes_batches")

    def __init__(self, link: Link, clock: IReactorTime) -> None:
        self.link = link
        self.calls = CallSender(link, clock)
        self.takes_batches = False

    def greeted(self, content: bytes) -> Hello:
        hello: Hello = ANSWERS["hello"](content)
        self.takes_batches = CALL_BATCHES in hello.features
        return hello


class MessageSender:
    """`link` makes the link to a URL."""

    def __init__(self, link: Callable[[str], Link], clock: IReactorTime) -> None:
        self._link = link
        self._clock = clock
        self._ways: dict[tuple[int, str], _Way] = {}

    def send(self, effect: Send) -> Deferred[Any]:
        """Fire with the answer to a message. The verb `hello` begins a session, in which all others
        to that peer are sent. Cancel it to abandon the message. Fails with a subclass of PeerError,
        or with one of UNREADABLE.
        """
        to, verb = (effect.link, effect.url), effect.verb
        way = self._ways.get(to)
        if way is None:
            if len(self._ways) >= _MOST_LINKS:
                # Of a former peer, most likely; another one only has to be greeted again.
                del self._ways[next(iter(self._ways))]
            way = self._ways[to] = _Way(self._link(effect.url), self._clock)
        if effect.joins and way.takes_batches:
            return way.calls.send(effect)
        body = encode_message(effect.message)
        if verb == "hello":
            return way.link.greet(body, effect.seconds).addCallback(way.greeted)
        return way.link.request(verb, body, effect.seconds).addCallback(ANSWERS[verb])
