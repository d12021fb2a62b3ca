"""Threads for blocking calls."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")


class RunInThread(Protocol):
    """Runs a blocking call in a thread, after those before it; fires with its result."""

    def __call__(self, call: Callable[[], T]) -> Deferred[T]: ...


class WorkerThreads:
    """The threads of a daemon. Each starts with its first call, so that none is lost when twistd
    forks.

    A call costs half of what Twisted's thread pools need, which can have several threads each.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._workers: list[_Worker] = []

    def add(self, name: str) -> RunInThread:
        """Add a thread; return what runs calls in it."""
        worker = _Worker(self._reactor, name)
        self._workers.append(worker)
        return worker.run

    def stop(self) -> None:
        """Wait for running calls and end all threads."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    """One thread, and the calls that wait for it."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        # Any: calls have various results.
        self._calls: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name)

    def run(self, call: Callable[[], T]) -> Deferred[T]:
        result: Deferred[T] = Deferred()
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError:
                # The system has no more threads for this user.
                result.errback()
                return result
        self._calls.put((call, result))
        return result

    def stop(self) -> None:
        if self._thread.ident is not None:
            self._calls.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            call, result = waiting
            try:
                value = call()
            except Exception:
                self._reactor.callFromThread(result.errback, Failure())
            else:
                self._reactor.callFromThread(result.callback, value)
