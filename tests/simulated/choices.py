"""Everything of a run that is left to chance: drawn from a seed, or taken from a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from math import log
from random import Random
from typing import TypeVar
from zlib import crc32

from tests.simulated.schedule import CallFate, Fate, Fault, Schedule

T = TypeVar("T")

_USUAL = Fate()
_USUAL_CALL = CallFate()
_HELD_SECONDS = 2.0
_ODDS_HELD = 0.1


class Rates:
    """The odds of each fault of a message; `answers` are those that a client loses an answer.
    `odds_usual` is how often a message has no fault, `odds_in_time` how often it and its answer
    arrive as usual.
    """

    def __init__(self) -> None:
        self.set()

    def set(
        self, loss: float = 0.0, slow: float = 0.0, late: float = 0.0, repeats: float = 0.0, answers: float = 0.0
    ) -> None:
        """Set all rates."""
        self.loss, self.slow, self.late, self.repeats, self.answers = loss, slow, late, repeats, answers
        self.odds_in_time = ((1 - loss) * (1 - late) * (1 - slow)) ** 2
        self.odds_usual = self.odds_in_time * (1 - loss) * (1 - repeats)
        self.disturb_messages = self.odds_usual < 1


class Draws:
    """The draws of one actor, in order: taken from a record as long as that lasts."""

    def __init__(self, random: Random, recorded: Sequence[float], kept: list[float]) -> None:
        self._random, self._recorded, self._kept = random, recorded, kept

    def random(self) -> float:
        return self.next(lambda: round(self._random.random(), 6))

    def uniform(self, low: float, high: float) -> float:
        return self.next(lambda: round(self._random.uniform(low, high), 6))

    def randrange(self, low: int, high: int | None = None) -> int:
        first, end = (0, low) if high is None else (low, high)
        return min(int(self.next(lambda: self._random.randrange(first, end))), end - 1)

    def choice(self, values: Sequence[T]) -> T:
        return values[self.randrange(len(values))]

    def next(self, draw: Callable[[], float]) -> float:
        place = len(self._kept)
        value = self._recorded[place] if place < len(self._recorded) else draw()
        self._kept.append(value)
        return value


class Stream:
    """The events of a name, of which so many have happened."""

    __slots__ = ("_seed", "count", "name")

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.count, self._seed = name, 0, seed

    def next(self) -> tuple[float, float]:
        """Return two numbers from 0 to 1 for the next event."""
        mixed = ((self._seed ^ self.count) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        self.count += 1
        mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        return (mixed >> 32) / 4294967296, ((mixed >> 8) & 0xFFFFFF) / 16777216


class Choices:
    """The choices of a run, kept in `schedule` as they are made.

    Without a seed they are taken from `recorded`. Usual delays follow from the salt and from what
    they are for.
    """

    def __init__(self, schedule: Schedule, recorded: Schedule | None = None) -> None:
        self.schedule, self.recorded = schedule, recorded
        self.rates = Rates()
        salt = schedule.header.salt
        self._salt = salt
        self._random = Random(f"fates {salt}")
        self._draws: dict[str, Draws] = {}
        # What was drawn for the next message of a name.
        self._next_fates: dict[str, Fate] = {}
        self._streams: dict[str, Stream] = {}

    def draws(self, actor: str) -> Draws:
        """Return the draws of an actor."""
        draws = self._draws.get(actor)
        if draws is None:
            recorded = () if self.recorded is None else self.recorded.draws.get(actor, ())
            kept = self.schedule.draws.setdefault(actor, [])
            draws = self._draws[actor] = Draws(Random(f"{actor} {self._salt}"), recorded, kept)
        return draws

    def fault(self, fault: Fault) -> None:
        """Keep a fault."""
        self.schedule.faults.append(fault)

    def random_bytes(self, name: str, count: int) -> bytes:
        """Return the random bytes for a name."""
        return sha256(f"{self._salt} {name}".encode()).digest()[:count]

    def stream(self, name: str) -> Stream:
        """Return all messages, requests or other events of a name."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Stream(name, crc32(f"{self._salt} {name}".encode()))
        return stream

    def message(self, stream: Stream) -> tuple[Fate, float, float]:
        """Return what happens to the next message of a stream, and two numbers for its usual
        delays.
        """
        name, count, fate = stream.name, stream.count, _USUAL
        if self.recorded is not None:
            fates = self.recorded.messages.get(name)
            fate = _USUAL if fates is None else fates.get(count, _USUAL)
        elif name in self._next_fates:
            fate = self._next_fates.pop(name)
        elif self.rates.disturb_messages:
            fate = self._draw_fate()
        if fate is not _USUAL:
            self.schedule.messages.setdefault(name, {})[count] = fate
        return fate, *stream.next()

    def rest(self, name: str, following: str, most: int) -> int:
        """Return how many messages of a name, and their answers, arrive as usual. The one that
        follows, of another name or the same one, is disturbed as drawn.
        """

        def draw() -> float:
            odds = self.rates.odds_in_time
            passed = most if odds >= 1 else min(most, int(log(1 - self._random.random()) / log(odds)))
            if passed < most:
                self._next_fates[following] = self._draw_disturbed(self._random.random() * (1 - odds))
            return passed

        return int(self.draws(f"{name} rests").next(draw))

    def forget_next(self, name: str) -> None:
        """Forget what was drawn for the next message of a name: it is sent earlier."""
        self._next_fates.pop(name, None)

    def call(self, name: str) -> tuple[CallFate, float, float]:
        """Return what happens to the next request of a client, and two numbers for the rest."""
        stream = self.stream(name)
        count, fate = stream.count, _USUAL_CALL
        if self.recorded is not None:
            fate = self.recorded.calls.get(name, {}).get(count, _USUAL_CALL)
        elif self.rates.answers or self.rates.slow:
            fate = self._draw_call_fate()
        if fate is not _USUAL_CALL:
            self.schedule.calls.setdefault(name, {})[count] = fate
        return fate, *stream.next()

    def _draw_fate(self) -> Fate:
        drawn = self._random.random() - self.rates.odds_usual
        return _USUAL if drawn < 0 else self._draw_disturbed(drawn)

    def _draw_disturbed(self, drawn: float) -> Fate:
        """Return a fate with a fault; which one happens first is drawn already."""
        rates, odds = self.rates, 1.0
        happens = []
        for rate in (rates.loss, rates.loss, rates.late, rates.slow, rates.late, rates.slow, rates.loss, rates.repeats):
            if drawn < 0:
                happens.append(self._random.random() < rate)
            else:
                drawn -= odds * rate
                odds *= 1 - rate
                happens.append(drawn < 0)
        lost, answer_lost, is_late, is_slow, is_answer_late, is_answer_slow, hang_up_lost, is_repeated = happens
        return Fate(
            lost=lost,
            late=self._lateness(is_late, is_slow),
            again=round(self._random.uniform(0.001, 20), 6) if is_repeated else 0.0,
            answer_lost=answer_lost,
            answer_late=self._lateness(is_answer_late, is_answer_slow),
            hang_up_lost=hang_up_lost,
        )

    def _draw_call_fate(self) -> CallFate:
        random, rates = self._random.random, self.rates
        hangs_up, answer_lost = random() < rates.answers / 2, random() < rates.answers
        late, answer_late = self._slowness(), self._slowness()
        is_held = rates.answers > 0 and random() < _ODDS_HELD
        held = round(self._random.uniform(0, _HELD_SECONDS), 6) if is_held else 0.0
        if not (hangs_up or answer_lost or late or answer_late or held):
            return _USUAL_CALL
        return CallFate(late, hangs_up, answer_lost, answer_late, held)

    def _lateness(self, is_late: bool, is_slow: bool) -> float:
        """Return the delay of a message, which may be longer than anybody waits for its answer; 0
        for the usual one.
        """
        if is_late:
            return round(self._random.uniform(4, 20), 6)
        return round(self._random.uniform(0.05, 3.0), 6) if is_slow else 0.0

    def _slowness(self) -> float:
        return self._lateness(False, self._random.random() < self.rates.slow)


def usual_delay(number: float) -> float:
    """Return the usual delay for a number from 0 to 1."""
    return 0.0005 + 0.0095 * number
