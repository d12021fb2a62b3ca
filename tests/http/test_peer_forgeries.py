"""Messages that somebody between peers changes, repeats, cuts short or sends back are rejected."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerUnreachable
from rqdisco.backends.gossip.transport.http_link import HTTPLink
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.http_client.interfaces import PostReply
from tests.support.daemon import result
from tests.support.peer_links import Answering, Pair, Wire


def test_a_replayed_message_is_rejected() -> None:
    pair = Pair()
    pair.greet()
    pair.ask()
    assert pair.wire.send(*pair.wire.sent[1]).status == 409
    assert len(pair.handler.received) == 1


def test_a_replayed_hello_gains_nothing() -> None:
    pair = Pair()
    pair.greet()
    assert pair.wire.send(*pair.wire.sent[0]).status == 200
    assert pair.ask() == b"answer"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_message_changed_in_transit_is_rejected(index: int, logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()

    def change(head: bytes) -> bytes:
        first, host, session, end = head.split(b"\r\n")
        name, *words = session.split()
        words[index] = {0: b"s9", 1: b"77", 2: b"0" * 64}[index]
        return b"\r\n".join([first, host, b" ".join([name, *words]), end])

    pair.wire.change_head = change
    with pytest.raises(NotGreeted):
        pair.ask()
    assert pair.handler.received == []
    logged_errors.clear()


def _with(status: int | None = None, seal: str | None = None, change: Any = lambda body: body) -> Any:
    """Return a function that changes an answer in transit."""

    def changed(reply: PostReply) -> PostReply:
        headers = reply.headers if seal is None else dict.fromkeys(reply.headers, seal.encode())
        return PostReply(status or reply.status, change(reply.body), headers)

    return changed


FORGED = [
    _with(status=403),
    _with(change=lambda body: body[:-1]),
    _with(change=lambda body: body + b" "),
    _with(change=lambda body: b""),
    _with(change=lambda body: body[::-1]),
    _with(seal="x" * 22),
    _with(seal=""),
]


@pytest.mark.parametrize("change", FORGED)
def test_an_answer_changed_or_cut_short_in_transit_is_rejected(change: Any) -> None:
    pair = Pair()
    pair.greet()
    pair.wire.change_reply = change
    with pytest.raises(PeerUnreachable, match="the answer is not sealed"):
        pair.ask()


@pytest.mark.parametrize("change", FORGED[1:])
def test_a_greeting_changed_or_cut_short_in_transit_begins_no_session(change: Any) -> None:
    pair = Pair()
    pair.wire.change_reply = change
    with pytest.raises(PeerUnreachable, match="not sealed with our key"):
        pair.greet()
    with pytest.raises(NotGreeted):
        pair.ask()


def test_an_answer_to_another_request_is_rejected() -> None:
    pair = Pair()
    pair.greet()
    kept: list[PostReply] = []

    def keep(reply: PostReply) -> PostReply:
        kept.append(reply)
        return PostReply(reply.status, reply.body, kept[0].headers)

    pair.wire.change_reply = keep
    assert pair.ask() == b"answer"
    with pytest.raises(PeerUnreachable, match="the answer is not sealed"):
        pair.ask()


def test_a_message_reflected_to_its_sender_is_rejected(logged_errors: list[Any]) -> None:
    """Both have the same key, so only the session identifies the receiver of a message."""
    pair = Pair()
    pair.greet()
    pair.ask()
    own = Answering()
    # Its own listener has a session of that name, too.
    api = PeerResource(own, pair.ours, pair.clock, Random(3).randbytes)
    back = Wire(api, pair.clock)
    link = HTTPLink("http://a:1", back, pair.theirs, Random(4).randbytes)
    result(link.greet(b"hello", 2))
    assert back.send(*pair.wire.sent[1]).status == 401
    assert own.received == []
    logged_errors.clear()
