"""Forwarded requests that travel together to one owner, and their answers.

While some are in flight, further ones wait, and then go as one message with the verb `calls`. Only
a peer that announces `CALL_BATCHES` in its hello is sent any. The machines of both sides are not
concerned: to them each is a `call` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.messages import encode_message
from rqdisco.backends.gossip.core.peer_errors import (
    BadMessage,
    Misdirected,
    NotGreeted,
    PeerError,
    PeerUnreachable,
    Rejected,
)
from rqdisco.backends.gossip.transport.coding import ANSWERS
from rqdisco.backends.gossip.transport.links import Link
from rqdisco.core.codec import UNREADABLE

CALLS = "calls"
_MOST_IN_FLIGHT = 2
# Either side works on so many, of IDs with few nodes, for about a slice of the reactor's time.
_MOST_CALLS = 16
_ERRORS: dict[str, type[PeerError]] = {kind.__name__: kind for kind in (BadMessage, Misdirected, NotGreeted, Rejected)}


class Calls(msgspec.Struct, frozen=True):
    """Requests, each a `Call`."""

    calls: list[msgspec.Raw]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one of them: an `Outcome`; or the name of a PeerError, and its text."""

    outcome: msgspec.Raw = msgspec.Raw()
    error: str | None = None
    text: str = ""


class Answers(msgspec.Struct, frozen=True):
    """The answers, in the order of the requests."""

    answers: list[Answer]


_decode_calls = msgspec.json.Decoder(Calls).decode
_decode_answers = msgspec.json.Decoder(Answers).decode


class CallSender:
    """Sends the requests that may travel together to one peer."""

    def __init__(self, link: Link, clock: IReactorTime) -> None:
        self._link = link
        self._clock = clock
        self._in_flight = 0
        # Each with the time by which it must be answered, and its message.
        self._waiting: dict[Deferred[Any], tuple[float, bytes]] = {}

    def send(self, effect: Send) -> Deferred[Any]:
        """See `MessageSender.send`."""
        answered: Deferred[Any] = Deferred(self._withdraw)
        self._waiting[answered] = self._clock.seconds() + effect.seconds, encode_message(effect.message)
        if self._in_flight < _MOST_IN_FLIGHT:
            self._send_waiting()
        return answered

    def _withdraw(self, answered: Deferred[Any]) -> None:
        # One that was sent goes on, like any registration whose client is gone.
        self._waiting.pop(answered, None)

    def _send_waiting(self) -> None:
        batch = list(self._waiting.items())[:_MOST_CALLS]
        for answered, _ in batch:
            del self._waiting[answered]
        calls = [msgspec.Raw(call) for _, (_, call) in batch]
        seconds = max(0.0, min(at for _, (at, _) in batch) - self._clock.seconds())
        self._in_flight += 1
        sending: Deferred[Any]
        if len(calls) == 1:
            sending = maybeDeferred(self._link.request, "call", bytes(calls[0]), seconds)
            sending.addCallback(lambda outcome: [Answer(msgspec.Raw(outcome))])
        else:
            sending = maybeDeferred(self._link.request, CALLS, encode_message(Calls(calls)), seconds)
            sending.addCallback(partial(_answers_to, len(calls)))
        sending.addBoth(self._answered, [answered for answered, _ in batch])

    def _answered(self, outcome: list[Answer] | Failure, batch: Sequence[Deferred[Any]]) -> None:
        self._in_flight -= 1
        if self._waiting:
            self._send_waiting()
        for number, answered in enumerate(batch):
            if answered.called:
                # Its client is gone.
                continue
            if isinstance(outcome, Failure):
                answered.errback(outcome)
            else:
                _give(outcome[number], answered)


def _answers_to(count: int, content: bytes) -> list[Answer]:
    answers = _decode_answers(content).answers
    if len(answers) != count:
        raise BadMessage("not as many answers as requests")
    return answers


def _give(answer: Answer, answered: Deferred[Any]) -> None:
    if answer.error is not None:
        answered.errback(_ERRORS.get(answer.error, PeerUnreachable)(answer.text))
        return
    try:
        outcome = ANSWERS["call"](bytes(answer.outcome))
    except Exception:
        answered.errback()
    else:
        answered.callback(outcome)


def serve_together(serve: Callable[[bytes], Deferred[bytes]], body: bytes) -> Deferred[bytes]:
    """Serve the requests of a message each by itself, and fire with all answers. Cancel it when the
    sender stops waiting.
    """
    try:
        calls = _decode_calls(body).calls
    except UNREADABLE as error:
        return fail(BadMessage(str(error)))
    served = DeferredList([serve(bytes(call)) for call in calls], consumeErrors=True)
    return served.addCallback(lambda answers: encode_message(Answers([_answer(*each) for each in answers])))


def _answer(is_answered: bool, result: Any) -> Answer:
    if is_answered:
        return Answer(msgspec.Raw(result))
    return Answer(error=type(result.value).__name__, text=str(result.value))
