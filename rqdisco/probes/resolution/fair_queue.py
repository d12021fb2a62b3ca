"""A queue in which IDs take turns, however many jobs each of them has. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from rqdisco.probes.resolution.fair_map import FairMap


class Job(Hashable, Protocol):
    """Something to do for one ID."""

    @property
    def discovery_id(self) -> str:
        """The ID whose turn it takes."""


J = TypeVar("J", bound=Job)


class FairQueue(Generic[J]):
    """Runs up to `at_once` jobs, `of_one` of them for the same ID; up to `most` wait. IDs take
    turns, job by job.

    `start` begins a job, whose end has to be reported to `finished`; it may end before `start`
    returns.
    """

    def __init__(self, start: Callable[[J], None], *, at_once: int, of_one: int, most: int) -> None:
        self._start = start
        self._at_once = at_once
        self._of_one = of_one
        self._waiting: FairMap[J, J] = FairMap(most)
        self._running: Counter[str] = Counter()
        self._count = 0
        # The IDs that have a job waiting and may run another one, in the order of their turns.
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._is_going_on = False

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._waiting)

    def add(self, job: J) -> J | None:
        """Run `job` when it is its ID's turn. Return the job that was dropped for it, if the queue
        was full.
        """
        dropped = self._waiting.put(job.discovery_id, job, job)
        if dropped is not None:
            self._line_up(dropped.discovery_id)
        self._line_up(job.discovery_id)
        self._go_on()
        return dropped

    def withdraw(self, job: J) -> None:
        """Do not run `job` if it still waits."""
        self._waiting.pop(job)
        self._line_up(job.discovery_id)

    def finished(self, job: J) -> None:
        """Take note that a job that ran has ended."""
        self._count -= 1
        self._running[job.discovery_id] -= 1
        if not self._running[job.discovery_id]:
            del self._running[job.discovery_id]
        self._line_up(job.discovery_id)
        self._go_on()

    def _line_up(self, discovery_id: str) -> None:
        """Give an ID a turn, or none, as it may run a job or not."""
        if self._waiting.count(discovery_id) and self._running[discovery_id] < self._of_one:
            self._turns.setdefault(discovery_id)
        else:
            self._turns.pop(discovery_id, None)

    def _go_on(self) -> None:
        # A thousand jobs that end at once would come back here a thousand levels deep.
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while self._turns and self._count < self._at_once:
                discovery_id, _ = self._turns.popitem(last=False)
                self._run_next(discovery_id)
        finally:
            self._is_going_on = False

    def _run_next(self, discovery_id: str) -> None:
        job = self._waiting.oldest(discovery_id)
        self._waiting.pop(job)
        self._count += 1
        self._running[discovery_id] += 1
        self._line_up(discovery_id)
        self._start(job)
