"""Errors of messages between peers."""

from __future__ import annotations


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
