"""What passes between peers, whatever carries it: messages of a verb and bytes, in a session that a
hello begins.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred

# How long a peer may take with a message of records, and a connection to it to come about.
PUSH_SECONDS = 2.0


class PeerError(Exception):
    """A message to a peer has no answer that could be used."""


class PeerUnreachable(PeerError):
    """No answer came in time. The peer may have got the message all the same, or get it later."""


class NotGreeted(PeerError):
    """There is no session with the peer, or it does not know of it any more: greet it, then ask
    again.

    The message was not looked at.
    """


class Misdirected(PeerError):
    """The message was for another incarnation than the one that got it, and was not acted upon
    (R2).
    """


class Rejected(PeerError):
    """The peer wants no message of ours; the text is its reason, such as that we were forgotten
    (R7).
    """


class BadMessage(PeerError):
    """The message is not one of the protocol."""


class Link(Protocol):
    """The way to the daemon at one URL. Cancelling a call gives the message up; both fail with
    PeerError's kinds.
    """

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        """Begin a session, in place of the one there may be; fire with the peer's own hello."""

    def ask(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        """Send a message within the session; fire with the answer."""


class Handler(Protocol):
    """What answers peers. Both raise PeerError's kinds, which travel back; Unreachable is never
    raised.
    """

    def greet(self, hello: bytes) -> tuple[str, bytes]:
        """The name of a new session, which is a short text of its own choice, and what to
        answer.
        """

    def serve(self, session: str, verb: str, body: bytes) -> Coroutine[Any, Any, bytes]:
        """The answer to a message. Cancelled when nobody waits for it any more."""
