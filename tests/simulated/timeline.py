"""Virtual time: one heap of scheduled calls, and each daemon's own view of it, which ends when the
daemon is killed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class Later:
    """A scheduled call."""

    def __init__(self, at: float, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.at, self._call, self._args, self._kwargs = at, call, args, kwargs
        self.is_over = self.is_cancelled = False

    def run(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._call(*self._args, **self._kwargs)

    def active(self) -> bool:
        return not self.is_over

    def cancel(self) -> None:
        if self.is_over:
            raise AlreadyCancelled if self.is_cancelled else AlreadyCalled
        self.is_over = self.is_cancelled = True

    def getTime(self) -> float:
        return self.at

    def delay(self, seconds: float) -> None:
        raise NotImplementedError

    def reset(self, seconds: float) -> None:
        raise NotImplementedError


@implementer(IReactorTime)
class Timeline:
    """The clock of the world; calls that are due at one moment run in the order in which they were
    scheduled.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Later]] = []
        self._numbers = itertools.count()

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, call: Callable[..., Any], *args: object, **kwargs: object) -> Later:  # type: ignore[override] # mypy_zope takes self for delay
        later = Later(self.now + delay, call, args, kwargs)
        heappush(self._due, (later.at, next(self._numbers), later))
        return later

    def getDelayedCalls(self) -> list[Later]:
        return [later for _, _, later in self._due if later.active()]

    def run_until(self, end: float) -> None:
        """Run everything up to a moment."""
        while self._due and self._due[0][0] <= end:
            at, _, later = heappop(self._due)
            self.now = max(self.now, at)
            later.run()
        self.now = max(self.now, end)


@implementer(IReactorTime)
class ViewOfTime:
    """The clock of one boot of a daemon; after `end` none of its calls run."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._has_ended = False
        self._awake_at = 0.0
        self.slept = 0.0

    @property
    def sleeps_for(self) -> float:
        """Return for how long the process is still stopped, 0 if it runs."""
        left = self._awake_at - self._timeline.now
        return left if left > 1e-6 else 0.0

    def was_awake_since(self, moment: float) -> bool:
        """Report whether the process was not stopped since then."""
        return self._awake_at < moment

    def sleep(self, seconds: float) -> None:
        """Stop the process; calls that become due run afterwards."""
        self.slept += seconds
        self._awake_at = max(self._awake_at, self._timeline.now) + seconds

    def end(self) -> None:
        self._has_ended = True

    def seconds(self) -> float:
        return self._timeline.seconds()

    def callLater(self, delay: float, call: Callable[..., Any], *args: object, **kwargs: object) -> Later:  # type: ignore[override] # mypy_zope takes self for delay
        return self._timeline.callLater(delay, self._run, call, args, kwargs)

    def getDelayedCalls(self) -> list[Later]:
        return []

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._has_ended:
            return
        if self.sleeps_for > 0:
            self._timeline.callLater(self.sleeps_for, self._run, call, args, kwargs)
        else:
            call(*args, **kwargs)


class EventHeap:
    """Virtual time without Twisted: calls that are due at one moment run in the order in which they
    were scheduled, and cannot be cancelled.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        """Call after a delay."""
        self._count += 1
        heappush(self._due, (self.now + delay, self._count, call, args))

    def call_at(self, at: float, call: Callable[..., Any], *args: Any) -> None:
        """Call at a moment, or now if it is over."""
        self._count += 1
        heappush(self._due, (at if at > self.now else self.now, self._count, call, args))

    def run_until(self, end: float) -> None:
        """Run everything up to a moment."""
        due = self._due
        while due and due[0][0] <= end:
            self.now, _, call, args = heappop(due)
            call(*args)
        self.now = max(self.now, end)


class HasTime(Protocol):
    """Whatever has a present time."""

    @property
    def now(self) -> float: ...


class Trace:
    """The events of a run, as text for people and as a number for comparison."""

    def __init__(self, timeline: HasTime) -> None:
        self._timeline = timeline
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(f"{self._timeline.now:9.3f} {text}")
