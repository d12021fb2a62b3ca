"""Sends messages to peers, over one link to each URL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from rqdisco.backends.gossip.core.messages import encode_message
from rqdisco.backends.gossip.transport.coding import decode_answer
from rqdisco.backends.gossip.transport.links import Link


class MessageSender:
    """`link` makes the link to a URL."""

    def __init__(self, link: Callable[[str], Link]) -> None:
        self._link = link
        self._links: dict[str, Link] = {}

    def send(self, url: str, verb: str, message: msgspec.Struct, seconds: float) -> Deferred[Any]:
        """Fire with the answer to a message. The verb `hello` begins a session, in which all others
        are sent. Cancel it to abandon the message. Fails with PeerError's kinds.
        """
        link = self._links.get(url)
        if link is None:
            link = self._links[url] = self._link(url)
        body = encode_message(message)
        sending = link.greet(body, seconds) if verb == "hello" else link.request(verb, body, seconds)
        return sending.addCallback(partial(decode_answer, verb))
