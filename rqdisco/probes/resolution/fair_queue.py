"""A queue in which IDs take turns, however many jobs each has. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from rqdisco.probes.resolution.fair_map import FairMap


class Job(Hashable, Protocol):
    """A job for one ID."""

    @property
    def discovery_id(self) -> str:
        """The ID that the job is charged to."""


J = TypeVar("J", bound=Job)


class FairQueue(Generic[J]):
    """Runs up to `max_running` jobs, up to `max_running_per_id` of one ID; up to `capacity` jobs
    wait. IDs take turns, job by job.

    `start` starts a job. Call `finished` when the job ends, which may be before `start` returns.
    """

    def __init__(self, start: Callable[[J], None], *, max_running: int, max_running_per_id: int, capacity: int) -> None:
        self._start = start
        self._max_running = max_running
        self._max_running_per_id = max_running_per_id
        self._waiting: FairMap[J, J] = FairMap(capacity)
        self._running: Counter[str] = Counter()
        self._count = 0
        # The IDs with a waiting job that may run, in the order of their turns.
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._is_dispatching = False

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._waiting)

    def add(self, job: J) -> J | None:
        """Run `job` when its ID has a turn. Return the job that was dropped from a full queue, if
        any.
        """
        dropped = self._waiting.put(job.discovery_id, job, job)
        if dropped is not None:
            self._update_turn(dropped.discovery_id)
        self._update_turn(job.discovery_id)
        self._dispatch()
        return dropped

    def withdraw(self, job: J) -> None:
        """Remove `job` if it still waits."""
        self._waiting.pop(job)
        self._update_turn(job.discovery_id)

    def finished(self, job: J) -> None:
        """Report that a started job has ended."""
        self._count -= 1
        self._running[job.discovery_id] -= 1
        if not self._running[job.discovery_id]:
            del self._running[job.discovery_id]
        self._update_turn(job.discovery_id)
        self._dispatch()

    def _update_turn(self, discovery_id: str) -> None:
        """Queue an ID for a turn if it may run a job, else remove it from the turns."""
        if self._waiting.count(discovery_id) and self._running[discovery_id] < self._max_running_per_id:
            self._turns.setdefault(discovery_id)
        else:
            self._turns.pop(discovery_id, None)

    def _dispatch(self) -> None:
        # A thousand jobs that end at once would recurse a thousand levels deep.
        if self._is_dispatching:
            return
        self._is_dispatching = True
        try:
            while self._turns and self._count < self._max_running:
                discovery_id, _ = self._turns.popitem(last=False)
                self._run_next(discovery_id)
        finally:
            self._is_dispatching = False

    def _run_next(self, discovery_id: str) -> None:
        job = self._waiting.oldest(discovery_id)
        self._waiting.pop(job)
        self._count += 1
        self._running[discovery_id] += 1
        self._update_turn(discovery_id)
        self._start(job)
