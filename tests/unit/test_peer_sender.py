"""Links to peers: one for each, and few of those that are gone."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.messages import Digest, Hello, encode_message
from rqdisco.backends.gossip.core.peer_errors import NotGreeted
from rqdisco.backends.gossip.transport.sender import MessageSender
from tests.support.daemon import result

HELLO = Hello(name="b", incarnation="b" * 16, run_id="1", url="http://b")
DIGEST = Digest(held={}, fingerprint="")


class GreetedLink:
    """A link to a peer that answers whoever greeted it."""

    def __init__(self) -> None:
        self.is_greeted = False

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        self.is_greeted = True
        return succeed(encode_message(HELLO))

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        if not self.is_greeted:
            raise NotGreeted
        return succeed(encode_message(DIGEST))


def hello_to(sender: MessageSender, link: int) -> Hello:
    greeted: Hello = result(sender.send(Send(1, "http://b", "hello", HELLO, 1.0, link)))
    return greeted


def test_each_peer_has_a_session_of_its_own_even_at_one_url() -> None:
    sender = MessageSender(lambda url: GreetedLink())
    assert hello_to(sender, 1) == hello_to(sender, 2) == HELLO
    assert result(sender.send(Send(2, "http://b", "digest", DIGEST, 1.0, 1))) == DIGEST
    with pytest.raises(NotGreeted):
        sender.send(Send(3, "http://b", "digest", DIGEST, 1.0, 3))


def test_links_of_former_peers_are_forgotten_and_a_peer_that_was_forgotten_is_greeted_again() -> None:
    sender = MessageSender(lambda url: GreetedLink())
    for link in range(1000):
        hello_to(sender, link)
    assert len(sender._links) <= 64
    assert hello_to(sender, 0) == HELLO
