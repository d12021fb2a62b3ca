"""Run coroutines that await Deferreds, with fewer objects than `Deferred.fromCoroutine`, which also
keeps context variables and serves old generators.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")
_NOTHING: Any = object()

_log = Logger()


def resume(
    coroutine: Coroutine[Deferred[Any], Any, T], waited: Deferred[Any], failed: Callable[[Failure], T]
) -> Deferred[T]:
    """Resume a coroutine, which has been started and awaits `waited`, whenever that has fired. Fire
    with the coroutine's result, or what `failed` makes of its exception.

    Cancelling the Deferred that is returned cancels the one that the coroutine awaits. It fires
    then, even if the coroutine awaits another one.
    """
    running = _Running(coroutine, failed)
    running.result = Deferred(running.cancel)
    running.wait(waited)
    return running.result


def run_in_background(coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
    """Start a coroutine that handles its own exceptions, and let it run."""
    try:
        waited = coroutine.send(None)
    except StopIteration:
        return
    _Running(coroutine, _unexpected).wait(waited)


def _unexpected(failure: Failure) -> None:
    _log.failure("a coroutine in the background failed", failure)


class _Running(Generic[T]):
    """A coroutine, and the Deferred that it awaits."""

    __slots__ = ("_arrived", "_coroutine", "_failed", "_is_adding", "_waited", "result")

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, T], failed: Callable[[Failure], T]) -> None:
        self._coroutine = coroutine
        self._failed = failed
        self._is_adding = False
        self.result: Deferred[T] | None = None

    def cancel(self, result: Deferred[T]) -> None:
        self._waited.cancel()
        if not result.called:
            result.callback(self._failed(Failure(CancelledError())))

    def wait(self, waited: Deferred[Any] | None) -> None:
        """Wait for Deferreds, one after the other, until one has not fired yet."""
        while waited is not None:
            self._waited, self._arrived, self._is_adding = waited, _NOTHING, True
            waited.addBoth(self._fired)
            self._is_adding = False
            waited = None if self._arrived is _NOTHING else self._continue(self._arrived)

    def _fired(self, arrived: Any) -> None:
        if self._is_adding:
            # `wait` goes on: calling it from here, a long row of them would exhaust the stack.
            self._arrived = arrived
        elif (waited := self._continue(arrived)) is not None:
            self.wait(waited)

    def _continue(self, arrived: Any) -> Deferred[Any] | None:
        """Run the coroutine up to its next `await`; return what it awaits, None at its end."""
        try:
            if isinstance(arrived, Failure):
                return arrived.throwExceptionIntoGenerator(self._coroutine)  # type: ignore[no-any-return]
            return self._coroutine.send(arrived)
        except StopIteration as end:
            value: T = end.value
        except Exception:
            value = self._failed(Failure())
        if self.result is not None and not self.result.called:
            self.result.callback(value)
        return None
