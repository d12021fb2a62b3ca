"""Sends messages to peers, over one link to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.messages import encode_message
from rqdisco.backends.gossip.transport.decoders import ANSWERS
from rqdisco.backends.gossip.transport.links import Link

_MOST_LINKS = 64


class MessageSender:
    """`link` makes the link to a URL."""

    def __init__(self, link: Callable[[str], Link]) -> None:
        self._link = link
        self._links: dict[tuple[int, str], Link] = {}

    def send(self, effect: Send) -> Deferred[Any]:
        """Fire with the answer to a message. The verb `hello` begins a session, in which all others
        to that peer are sent. Cancel it to abandon the message. Fails with a subclass of PeerError,
        or with one of UNREADABLE.
        """
        to, verb = (effect.link, effect.url), effect.verb
        link = self._links.get(to)
        if link is None:
            if len(self._links) >= _MOST_LINKS:
                # The oldest one. If its peer is still one, it is greeted again.
                del self._links[next(iter(self._links))]
            link = self._links[to] = self._link(effect.url)
        body = encode_message(effect.message)
        sending = link.greet(body, effect.seconds) if verb == "hello" else link.request(verb, body, effect.seconds)
        return sending.addCallback(ANSWERS[verb])
