"""Decodes messages by their verb."""

from __future__ import annotations

from typing import Any

from rqdisco.backends.gossip.core.messages import VERBS, decode_message
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core.codec import Malformed


def decode_request(verb: str, body: bytes) -> Any:
    """Return a peer's message. Raises BadMessage."""
    kinds = VERBS.get(verb)
    if kinds is None:
        raise BadMessage("no such verb")
    return _decode(body, kinds[0])


def decode_answer(verb: str, body: bytes) -> Any:
    """Return the answer to a message of this daemon. Raises BadMessage."""
    return _decode(body, VERBS[verb][1])


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return decode_message(body, kind)
    except Malformed as error:
        raise BadMessage(str(error)) from None
