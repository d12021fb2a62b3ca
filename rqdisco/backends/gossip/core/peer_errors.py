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


def gone_reason(state: str, incarnation: str) -> str:
    """Return why a daemon that was forgotten or drained must not take part.

    Peers of all releases parse this text: it must begin with the state and contain the incarnation.
    """
    return f"{state}: the IDs of {incarnation} have another owner"


def duplicate_reason(incarnation: str) -> str:
    """Return why a daemon must not take part beside another one of its incarnation (R8)."""
    return f"two daemons run as incarnation {incarnation}"
