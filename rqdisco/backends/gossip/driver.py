"""Runs the machine: hands it what happens, one input after the other, and performs its effects.

Everything that can fail, be cancelled or take time is here: the disk, peers, the timer, and clients
that go away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core import effects, inputs
from rqdisco.backends.gossip.core.machine import Machine
from rqdisco.backends.gossip.core.messages import encode_message
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError, PeerUnreachable
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.transport.decoders import REQUESTS
from rqdisco.backends.gossip.transport.sender import MessageSender
from rqdisco.core.codec import UNREADABLE
from rqdisco.core.errors import StoreUnavailable
from rqdisco.coroutines import HoldableResult
from rqdisco.storage.memory import Store
from rqdisco.storage.wal.writer import Journal

# How long the machine may work before the reactor serves others.
SLICE_SECONDS = 0.005
# Of an input that the machine failed on, in the log.
_SHOWN_CHARACTERS = 2_000


class Driver(Service):
    """Runs the machine that `build` returns, whose store is `store` and whose changes `journal`
    writes. It is the MessageHandler of the daemon.

    `state` is the machine's state, to read. `notify` is called with the ID whose watchers must be
    notified, `on_fenced` with the reason when this daemon is fenced.
    """

    _log = Logger()

    def __init__(
        self,
        build: Callable[[inputs.Now], Machine],
        store: Store,
        journal: Journal,
        environment: GossipEnvironment,
        notify: Callable[[str], None],
        on_fenced: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._sender = MessageSender(environment.link)
        self._environment = environment
        self._clock = environment.clock
        self._inputs: deque[inputs.Input] = deque()
        # Results of the disk, which the store shows already: the machine must not decide before it
        # knows all of them.
        self._results: deque[inputs.Input] = deque()
        self._is_working = self._is_stopped = False
        self._pause: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._woken_at = self._ticked_at = 0.0
        self._last_number = 0
        self._machine = build(inputs.Now(self._clock.seconds(), environment.now(), environment.wall_us()))
        self.state = self._machine.state
        # What is under way, by number.
        self._requests: dict[int, HoldableResult[Any]] = {}
        self._received: dict[int, Deferred[bytes]] = {}
        self._sends: dict[int, Deferred[Any]] = {}
        self._performers: dict[type[effects.Effect], Callable[[Any], None]] = {
            effects.Send: self._send,
            effects.Abandon: lambda effect: self._abandon(effect.number),
            effects.Respond: self._respond,
            effects.Persist: self._persist,
            effects.ClientReply: self._reply,
            effects.Wake: self._wake,
            effects.Fence: lambda effect: on_fenced(effect.reason),
            effects.Notify: lambda effect: notify(effect.id),
            effects.Log: self._write_log,
        }
        store.on_settled.append(lambda changes: self._put_result(inputs.Settled(changes)))
        store.on_discarded.append(lambda changes: self._put_result(inputs.Discarded(changes)))
        journal.on_delivered.append(self._delivered_all)

    def startService(self) -> None:
        super().startService()
        self._put(inputs.Started())

    def stopService(self) -> None:
        super().stopService()
        self._put(inputs.Stopped())
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number in list(self._sends):
            self._abandon(number)

    # Requests of clients.

    def request(self, command: inputs.Command) -> Deferred[Any]:
        """Fire with the reply to a command. Cancel it when the client is gone; a grant is then
        revoked.
        """
        self._last_number = number = self._last_number + 1
        answer: HoldableResult[Any] = HoldableResult(lambda _: self._cancelled(number))
        self._requests[number] = answer
        self._put(inputs.Requested(number, command))
        return answer

    def _cancelled(self, number: int) -> None:
        # If a reply is held back, `_deliver` finds that it was cancelled.
        if self._requests.pop(number, None) is not None:
            self._put(inputs.Cancelled(number))

    def _reply(self, effect: effects.ClientReply) -> None:
        answer = self._requests.pop(effect.number, None)
        if effect.confirm:
            self._reply_confirmed(effect, answer)
        elif answer is None or answer.called:
            return
        elif isinstance(effect.result, Exception):
            answer.errback(effect.result)
        else:
            answer.callback(effect.result)

    def _reply_confirmed(self, effect: effects.ClientReply, answer: HoldableResult[Any] | None) -> None:
        """Reply once the client is known to be there, if that is in doubt now."""
        if answer is not None and answer.held is not None:
            answer.held.addCallback(lambda _: self._deliver(effect, answer))
        else:
            self._deliver(effect, answer)

    def _deliver(self, effect: effects.ClientReply, answer: HoldableResult[Any] | None) -> None:
        was_delivered = answer is not None and not answer.called
        if answer is not None and was_delivered:
            # The client is sent its answer in this very call.
            answer.callback(effect.result)
        self._put(inputs.Delivered(effect.number, was_delivered))

    # Messages of peers: the MessageHandler of the transport.

    def greet(self, hello: bytes) -> Deferred[tuple[str, bytes]]:
        """See `MessageHandler.greet`."""
        try:
            message = REQUESTS["hello"](hello)
        except UNREADABLE as error:
            return fail(BadMessage(str(error)))
        session = self._environment.random_name()
        self._last_number = number = self._last_number + 1
        self._received[number] = answer = Deferred[bytes](lambda _: self._hung_up(number))
        self._put(inputs.Greeted(number, session, message))
        return answer.addCallback(lambda greeting: (session, greeting))

    def serve(self, session: str, verb: str, body: bytes) -> Deferred[bytes]:
        """See `MessageHandler.serve`."""
        message: msgspec.Struct | BadMessage
        decode = REQUESTS.get(verb)
        try:
            message = BadMessage("no such verb") if decode is None else decode(body)
        except UNREADABLE as error:
            message = BadMessage(str(error))
        self._last_number = number = self._last_number + 1
        self._received[number] = answer = Deferred[bytes](lambda _: self._hung_up(number))
        self._put(inputs.Received(number, session, verb, message))
        return answer

    def _hung_up(self, number: int) -> None:
        if self._received.pop(number, None) is not None:
            self._put(inputs.HungUp(number))

    def _respond(self, effect: effects.Respond) -> None:
        answer = self._received.pop(effect.number, None)
        if answer is None:
            return
        if isinstance(effect.message, PeerError):
            answer.errback(effect.message)
        else:
            answer.callback(encode_message(effect.message))

    # Messages to peers.

    def _send(self, effect: effects.Send) -> None:
        if self._is_stopped:
            return
        # The machine waits for the outcome of each, even if an error here is the reason.
        self._sends[effect.number] = sending = maybeDeferred(self._sender.send, effect)
        sending.addCallbacks(partial(self._answered, effect), partial(self._not_answered, effect))

    def _answered(self, effect: effects.Send, message: Any) -> None:
        del self._sends[effect.number]
        self._put(inputs.Answered(effect.number, message))

    def _not_answered(self, effect: effects.Send, failure: Failure) -> None:
        if self._sends.pop(effect.number, None) is None:
            # It was abandoned.
            return
        error = failure.value
        if isinstance(error, UNREADABLE):
            error = BadMessage(str(error))
        elif not isinstance(error, PeerError):
            self._log.failure("message not sent", failure, url=effect.url)
            error = PeerUnreachable("internal error")
        self._put(inputs.Failed(effect.number, error))

    def _abandon(self, number: int) -> None:
        sending = self._sends.pop(number, None)
        if sending is not None:
            sending.cancel()

    # The disk, the timer and the log.

    def _persist(self, effect: effects.Persist) -> None:
        try:
            writing = self._journal.append(*effect.changes) if effect.changes else self._journal.barrier()
        except StoreUnavailable as error:
            self._put_result(inputs.WriteRefused(effect.number, error.reason))
            return
        writing.addCallbacks(
            lambda _: self._put_result(inputs.Persisted(effect.number)),
            lambda failure: self._put_result(inputs.WriteRefused(effect.number, failure.value.reason)),
        )

    def _wake(self, effect: effects.Wake) -> None:
        self._woken_at = effect.at
        if self._is_stopped:
            return
        seconds = max(0.0, effect.at - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._tick)
        else:
            self._timer.reset(seconds)

    def _tick(self) -> None:
        self._timer = None
        # The sum of a time and a delay may be rounded down.
        self._ticked_at = self._woken_at
        self._put(inputs.Ticked())

    def _write_log(self, effect: effects.Log) -> None:
        self._log.emit(LogLevel.lookupByName(effect.level), effect.text, **effect.fields)

    # The loop.

    def _put(self, happened: inputs.Input) -> None:
        """Hand an input to the machine, after those that wait."""
        self._inputs.append(happened)
        if not (self._is_working or self._pause is not None or self._journal.is_delivering):
            self._work()

    def _put_result(self, happened: inputs.Input) -> None:
        """Hand a result of the disk to the machine, before all else that waits: what is decided must
        not build on changes that the store has discarded.
        """
        self._results.append(happened)
        if not (self._is_working or self._pause is not None or self._journal.is_delivering):
            self._work()

    def _delivered_all(self) -> None:
        """Process what waits, now that all results of a batch are here."""
        if (self._results or self._inputs) and not self._is_working and self._pause is None:
            self._work()

    def _work(self) -> None:
        """Process inputs until none waits, or until others must have their turn."""
        self._pause, self._is_working = None, True
        environment, clock = self._environment, self._clock
        end = clock.seconds() + SLICE_SECONDS
        while waiting := self._results or self._inputs:
            happened, seconds = waiting.popleft(), max(clock.seconds(), self._ticked_at)
            now = inputs.Now(seconds, environment.now(), environment.wall_us())
            try:
                caused = self._machine.receive(happened, now)
            except Exception as error:
                self._log.failure("internal error at input {input}", input=repr(happened)[:_SHOWN_CHARACTERS])
                self._fail(happened, error)
                caused = self._machine.take_effects()
            for effect in caused:
                try:
                    self._performers[type(effect)](effect)
                except Exception:
                    self._log.failure("internal error at effect {effect}", effect=repr(effect)[:_SHOWN_CHARACTERS])
            if (self._results or self._inputs) and clock.seconds() > end:
                self._pause = clock.callLater(0, self._work)
                break
        self._is_working = False

    def _fail(self, happened: inputs.Input, error: Exception) -> None:
        """Fail the request or message that the machine could not process."""
        waiting: Deferred[Any] | None = None
        if isinstance(happened, inputs.Requested):
            waiting = self._requests.pop(happened.number, None)
        elif isinstance(happened, (inputs.Greeted, inputs.Received)):
            waiting = self._received.pop(happened.number, None)
        if waiting is not None and not waiting.called:
            waiting.errback(error)
