"""Shrinks the schedule of a run that failed: drops what is not needed for the same kind of failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tests.simulated.schedule import CallFate, Fate, Fault, Schedule

T = TypeVar("T")

# A run of a schedule: the kinds of its violations, and the schedule as it was carried out.
Run = Callable[[Schedule], tuple[set[str], Schedule]]
# A run takes some hundredths of a second.
_MOST_RUNS = 600


class Shrinker:
    """Drops parts of a schedule, as many at once as possible, while it fails in one of the same
    ways.
    """

    def __init__(self, run: Run, most_runs: int = _MOST_RUNS) -> None:
        self._run = run
        self._left = most_runs

    def shrink(self, schedule: Schedule) -> Schedule:
        """Return a schedule that still fails, without what is not needed for that. One that does not
        fail is returned as it is.
        """
        kinds, _ = self._run(schedule)
        if not kinds:
            return schedule
        parts = _parts(schedule)

        def fails(some: Sequence[Any]) -> bool:
            return bool(kinds & self._run(_joined(schedule, some))[0])

        while True:
            fewer = self._without_some(parts, fails)
            if len(fewer) == len(parts) or self._left <= 0:
                break
            parts = fewer
        # What happened in it, without the rest of what was drawn.
        shrunk = self._run(_joined(schedule, fewer))[1].without_unused()
        return shrunk if kinds & self._run(shrunk)[0] else _joined(schedule, fewer)

    def _without_some(self, parts: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
        size = len(parts)
        while size:
            start = 0
            while start < len(parts) and self._left > 0:
                fewer = [*parts[:start], *parts[start + size :]]
                self._left -= 1
                if fails(fewer):
                    parts = fewer
                else:
                    start += size
            size //= 2
        return parts


_Part = Fault | tuple[str, int, Fate] | tuple[str, int, CallFate]


def _parts(schedule: Schedule) -> list[_Part]:
    parts: list[_Part] = []
    parts += [(name, count, fate) for name, fates in schedule.messages.items() for count, fate in fates.items()]
    parts += [(name, count, fate) for name, fates in schedule.calls.items() for count, fate in fates.items()]
    return [*parts, *schedule.faults]


def _joined(schedule: Schedule, parts: Sequence[_Part]) -> Schedule:
    """Return a schedule with these parts only."""
    joined = replace(schedule, faults=[], messages={}, calls={})
    for part in parts:
        if isinstance(part, Fault):
            joined.faults.append(part)
            continue
        name, count, fate = part
        if isinstance(fate, Fate):
            joined.messages.setdefault(name, {})[count] = fate
        else:
            joined.calls.setdefault(name, {})[count] = fate
    return joined
