"""Who was told what under an ID: the last answers of this daemon, kept in memory for operators."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

MOST_ANSWERS = 20
_MOST_IDS = 10_000


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer: `at` is in microseconds since 1970 by the wall clock, `listed` how many nodes it named."""

    at: int
    addr: str
    what: str
    listed: int


class ToldLog:
    """The last answers for each of the IDs that were asked for last."""

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self._wall_us = wall_us
        self._answers: OrderedDict[str, deque[Told]] = OrderedDict()

    def note(self, discovery_id: str, addr: str, what: str, listed: int) -> None:
        """An answer is about to be sent."""
        answers = self._answers.get(discovery_id)
        if answers is None:
            answers = self._answers[discovery_id] = deque(maxlen=MOST_ANSWERS)
            if len(self._answers) > _MOST_IDS:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(discovery_id)
        answers.append(Told(at=self._wall_us(), addr=addr, what=what, listed=listed))

    def of(self, discovery_id: str) -> Sequence[Told]:
        """The answers for an ID, the oldest first."""
        return tuple(self._answers.get(discovery_id, ()))
