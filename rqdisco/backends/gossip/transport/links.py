"""The interfaces of the peer transport; its errors are in `core.peer_errors`.

A Link sends messages to one peer, and a MessageHandler answers them at the peer. A message is a
verb and bytes, sent in a session that a hello began. HTTPLink and PeerResource carry messages over
HTTP; the Driver is the MessageHandler. The tests have links of their own.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

# Timeout for pushing records, and for connecting.
CONNECT_SECONDS = 2.0


class Link(Protocol):
    """The way to the daemon at one URL. Cancelling a call abandons the message; both methods fail
    with a subclass of PeerError.
    """

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        """Begin a session, replacing any earlier one; fire with the peer's hello."""

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        """Send a message within the session; fire with the answer."""


class MessageHandler(Protocol):
    """Answers peers. Both methods fail with a subclass of PeerError, except PeerUnreachable; the
    sender's Link fails with the same kind. They are cancelled when the sender stops waiting.
    """

    def greet(self, hello: bytes) -> Deferred[tuple[str, bytes]]:
        """Begin a session; fire with its name, a short text, and the answer to the hello."""

    def serve(self, session: str, verb: str, body: bytes) -> Deferred[bytes]:
        """Fire with the answer to a message."""
