"""The interfaces of the peer transport, and its errors.

A Link sends messages to one peer, and a MessageHandler answers them at the peer. A message is a
verb and bytes, sent in a session that a hello began. HTTPLink and PeerResource carry messages over
HTTP; PeerRequestHandler is the MessageHandler. The tests have links of their own.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

# Timeout for pushing records, and for connecting.
PUSH_SECONDS = 2.0


class PeerError(Exception):
    """A message to a peer failed."""


class PeerUnreachable(PeerError):
    """No answer in time. The peer may have received the message all the same, or receive it
    later.
    """


class NotGreeted(PeerError):
    """There is no session, or the peer has dropped it: greet, then repeat the message.

    The message was not processed.
    """


class Misdirected(PeerError):
    """The message was for another incarnation than the receiver's, which did nothing (R2)."""


class Rejected(PeerError):
    """The peer accepts no messages of ours; the text is the reason, for example that we were
    forgotten (R7).
    """


class BadMessage(PeerError):
    """The message is not valid in the protocol."""


class Link(Protocol):
    """The way to the daemon at one URL. Cancelling a call abandons the message; both methods fail
    with PeerError's kinds.
    """

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        """Begin a session, replacing any earlier one; fire with the peer's hello."""

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        """Send a message within the session; fire with the answer."""


class MessageHandler(Protocol):
    """Answers peers. Both methods raise PeerError's kinds, except PeerUnreachable; the sender's
    Link fails with the same kind.
    """

    def greet(self, hello: bytes) -> tuple[str, bytes]:
        """Begin a session; return its name, a short text, and the answer to the hello."""

    async def serve(self, session: str, verb: str, body: bytes) -> bytes:
        """Answer a message; cancelled when its sender stops waiting."""
