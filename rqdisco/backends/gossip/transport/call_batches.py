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
from twisted.internet.defer import Deferred, maybeDeferred
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

CALLS = "calls"
_MOST_IN_FLIGHT = 2
# The records of so many answers, at the limit of nodes, fit into a message.
_MOST_CALLS = 32
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


decode_calls = msgspec.json.Decoder(Calls).decode
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
        outcome = ANSWERS["call"](answer.outcome)
    except Exception:
        answered.errback()
    else:
        answered.callback(outcome)


class BatchAnswer:
    """The answer to requests that came together: fires `sent` once all of them are answered. It is
    cancelled when the sender stops waiting, which calls `hang_up`.
    """

    def __init__(self, count: int, hang_up: Callable[[], None]) -> None:
        self.sent: Deferred[bytes] = Deferred(lambda _: hang_up())
        self._answers: list[Answer | None] = [None] * count
        self._left = count

    def give(self, number: int, answer: Answer) -> None:
        """Answer one of them."""
        self._answers[number] = answer
        self._left -= 1
        if not self._left and not self.sent.called:
            self.sent.callback(encode_message(Answers([each for each in self._answers if each is not None])))


class CallAnswer:
    """The answer to one of several requests. It is fired as a Deferred is."""

    __slots__ = ("_batch", "_number", "called")

    def __init__(self, batch: BatchAnswer, number: int) -> None:
        self._batch = batch
        self._number = number
        self.called = False

    def callback(self, content: bytes) -> None:
        """Answer with an outcome."""
        self.called = True
        self._batch.give(self._number, Answer(msgspec.Raw(content)))

    def errback(self, error: Exception) -> None:
        """Answer with an error."""
        self.called = True
        self._batch.give(self._number, Answer(error=type(error).__name__, text=str(error)))
