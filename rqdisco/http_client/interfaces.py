"""The outcomes of a request."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class NotSent(Exception):
    """The request was certainly not received: the connection was refused, or never established."""


class ConnectionBroken(Exception):
    """The request may have been received, and no whole answer came: the connection ended, or the
    time is up.
    """


class AnswerTooLarge(ConnectionBroken):
    """The answer is larger than this daemon reads."""


class PostReply(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. `headers` are those that `PoolConfig.kept_headers` names, in lower case; of
    several of one name, the first.
    """

    status: int
    body: bytes
    headers: Mapping[bytes, bytes] = {}
