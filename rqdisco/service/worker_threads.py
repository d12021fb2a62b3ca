"""Threads for blocking calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class RunInThread(Protocol):
    """Runs a blocking call in a thread, after those before it; fires with its result."""

    def __call__(self, call: Callable[[], T]) -> Deferred[T]: ...


class WorkerThreads:
    """The threads of a daemon. Each starts with its first call, so that none is lost when twistd
    forks.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._pools: list[ThreadPool] = []

    def add(self, name: str) -> RunInThread:
        """Add a thread; return what runs calls in it."""
        pool = ThreadPool(1, 1, name)
        self._pools.append(pool)

        def run(call: Callable[[], T]) -> Deferred[T]:
            if not pool.started:
                pool.start()
            return deferToThreadPool(self._reactor, pool, call)

        return run

    def stop(self) -> None:
        """Wait for running calls and end all threads."""
        for pool in self._pools:
            pool.stop()
