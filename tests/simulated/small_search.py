"""The search through a small world, breadth first: a state already seen is not expanded again."""

from __future__ import annotations

import marshal
import time
from array import array
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from tests.simulated.small_state import Event, World
from tests.simulated.small_steps import SmallWorld


class Violation(NamedTuple):
    text: str
    path: list[Event]


class Found(NamedTuple):
    """The result of a search: the numbers of states, steps and states of daemons, the number of events
    after which the last states were reached, and the number of new states after each.
    """

    states: int
    steps: int
    daemon_states: int
    levels: list[int]
    is_exhausted: bool
    seconds: float
    violation: Violation | None

    @property
    def depth(self) -> int:
        return len(self.levels) - 1


def search(
    small: SmallWorld, *, seconds: float, depth: int = 1000, progress: Callable[[int, int], None] | None = None
) -> Found:
    """Go through all states, nearest first, until one violates something, or time or depth end."""
    began, first = time.monotonic(), small.first
    seen = {_fingerprint(first)}
    frontier = [(0, first)]
    parents, by_event = array("Q", [0]), array("L", [0])
    events: dict[Event, int] = {}
    levels, steps, is_late = [1], 0, False
    violation: Violation | None = None
    while frontier and violation is None and not is_late and len(levels) <= depth:
        following: list[tuple[int, World]] = []
        for number, world in frontier:
            if time.monotonic() - began > seconds:
                is_late = True
                break
            if (wrong := small.check_quiet(world)) is not None:
                violation = Violation(wrong, _path(number, parents, by_event, list(events)))
                break
            for event in small.events(world):
                steps += 1
                after, wrong = small.apply(world, event)
                if wrong is not None:
                    violation = Violation(wrong, [*_path(number, parents, by_event, list(events)), event])
                    break
                fingerprint = _fingerprint(after)
                if fingerprint in seen:
                    continue
                seen.add(fingerprint)
                parents.append(number)
                by_event.append(events.setdefault(event, len(events)))
                following.append((len(parents) - 1, after))
            if violation is not None:
                break
        if following:
            levels.append(len(following))
        if progress is not None:
            progress(len(levels) - 1, len(seen))
        frontier = following
    is_exhausted = not frontier and violation is None and not is_late
    return Found(len(seen), steps, len(small.table), levels, is_exhausted, time.monotonic() - began, violation)


def _fingerprint(world: World) -> bytes:
    daemons, items, clients, operator, *left = world
    plain: Any = (daemons, items, *map(tuple, clients), tuple(operator), *left)
    return blake2b(marshal.dumps(plain, 2), digest_size=12).digest()


def _path(number: int, parents: array[int], by_event: array[int], events: list[Event]) -> list[Event]:
    path = []
    while number:
        path.append(events[by_event[number]])
        number = parents[number]
    return path[::-1]


def show(small: SmallWorld, path: list[Event], show: Callable[[str], None]) -> None:
    """Go a path once more, and print every input and effect."""
    small.table.show = show
    world = small.first
    for number, event in enumerate(path):
        show(f"{number + 1}. {small.text_of(event)}")
        world, wrong = small.apply(world, event)
        wrong = wrong or small.check_quiet(world)
        if wrong is not None:
            show(f"VIOLATION {wrong}")
    small.table.show = None
