"""Run coroutines that await Deferreds, with fewer objects than `Deferred.fromCoroutine`, which also
keeps context variables and serves old generators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")
_NOTHING: Any = object()

_log = Logger()


class HoldableResult(Deferred[T]):
    """A Deferred whose producer must wait for `held`, if set, before firing it. By then it may have
    failed, since it was cancelled or its time was up.
    """

    held: Deferred[None] | None = None

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        super().errback(fail)
        # Whoever held it back is gone, and would not release it.
        self.release()

    def hold(self) -> None:
        """Hold the result back until `release`."""
        if self.held is None:
            self.held = Deferred()

    def release(self) -> None:
        """Let the result be given."""
        held, self.held = self.held, None
        if held is not None:
            held.callback(None)


class LoopService(Service, ABC):
    """A service that is one coroutine, `run`, which is cancelled when the service stops."""

    _loop: Deferred[None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Work until the service stops. Must not raise."""

    def startService(self) -> None:
        super().startService()
        self._loop = Deferred.fromCoroutine(self.run())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
        return loop


async def gather(coroutines: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Run coroutines at once, and return their results in order. Unlike `gatherResults` it raises an
    exception of one of them as it is, such as a cancellation.
    """
    started = [Deferred.fromCoroutine(each) for each in coroutines]
    return [await each for each in started]


def run_in_background(coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
    """Start a coroutine that handles its own exceptions, and let it run."""
    try:
        waited = coroutine.send(None)
    except StopIteration:
        return
    except Exception:
        _log_failure(Failure())
        return
    Running(coroutine, waited, _log_failure)


def _log_failure(outcome: Failure | None) -> None:
    if outcome is not None:
        _log.failure("background coroutine failed", outcome)


class Running(Generic[T]):
    """A coroutine that was started and awaits `waited`. It is resumed whenever what it awaits has
    fired, until it is over.

    `complete` converts the outcome to the result. `cancel` cancels the awaited Deferred and ends
    the coroutine, even if it awaits another one; it does nothing if `is_shielded`.
    """

    __slots__ = (
        "_arrived",
        "_call",
        "_complete",
        "_coroutine",
        "_holds_results",
        "_is_adding",
        "_is_shielded",
        "_result",
        "_waited",
        "is_over",
    )

    def __init__(
        self,
        coroutine: Coroutine[Deferred[Any], Any, T],
        waited: Deferred[Any],
        complete: Callable[[T | Failure], T],
        *,
        is_shielded: bool = False,
    ) -> None:
        self._coroutine = coroutine
        self._complete = complete
        self._call: Callable[[T], object] | None = None
        self._is_adding = self._holds_results = False
        self._is_shielded = is_shielded
        self.is_over = False
        self._wait(waited)

    def then(self, call: Callable[[T], object]) -> None:
        """Call `call` with the result, once it is over."""
        if self.is_over:
            call(self._result)
        else:
            self._call = call

    def cancel(self) -> None:
        """End the coroutine early, unless it is shielded or over."""
        if self.is_over or self._is_shielded:
            return
        waited = self._waited
        waited.cancel()
        if not self.is_over:
            self._end(Failure(CancelledError()))

    def hold_results(self) -> None:
        """Hold back what is HoldableResult: the client may be gone."""
        self._holds_results = True
        if not self.is_over and isinstance(self._waited, HoldableResult):
            self._waited.hold()

    def release_results(self) -> None:
        """Hold nothing back: the client is there."""
        self._holds_results = False
        if not self.is_over and isinstance(self._waited, HoldableResult):
            self._waited.release()

    def _wait(self, waited: Deferred[Any] | None) -> None:
        """Wait for Deferreds, one after the other, until one has not fired yet."""
        while waited is not None:
            self._waited, self._arrived, self._is_adding = waited, _NOTHING, True
            waited.addBoth(self._fired)
            self._is_adding = False
            if self._holds_results and isinstance(waited, HoldableResult):
                waited.hold()
            waited = None if self._arrived is _NOTHING else self._continue(self._arrived)

    def _fired(self, arrived: Any) -> None:
        if self._is_adding:
            # Return to the loop in _wait: recursing here would exhaust the stack.
            self._arrived = arrived
        elif (waited := self._continue(arrived)) is not None:
            self._wait(waited)

    def _continue(self, arrived: Any) -> Deferred[Any] | None:
        """Run the coroutine up to its next `await`; return what it awaits, None at its end."""
        try:
            if isinstance(arrived, Failure):
                # Twisted declares no result.
                awaited: Deferred[Any] = arrived.throwExceptionIntoGenerator(self._coroutine)
                return awaited
            return self._coroutine.send(arrived)
        except StopIteration as end:
            outcome: T | Failure = end.value
        except Exception:
            outcome = Failure()
        if not self.is_over:
            self._end(outcome)
        return None

    def _end(self, outcome: T | Failure) -> None:
        self.is_over = True
        self._result = result = self._complete(outcome)
        # Whoever waits may refer to this object; a cycle would wait for the garbage collector.
        call, self._call = self._call, None
        if call is not None:
            call(result)
