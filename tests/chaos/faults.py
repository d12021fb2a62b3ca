"""Faults of the daemons and between them, chosen by a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from tests.chaos.daemons import NAMES, ThreeDaemons
from tests.support.proxy import CUT, DEAF, HALF_OPEN, HEALTHY, MUTE, Fault, slow

FAULTS = ("links", "kills", "stops", "rollbacks", "disks")
# At most this many of these in one round, because each of them concerns all IDs of an owner.
_MOST = {"rollbacks": 2, "disks": 1}
_WEIGHTS = {"links": 5, "kills": 2, "stops": 2, "rollbacks": 1, "disks": 1}


class Faults:
    """Applies faults of these `kinds` to three daemons, one every `every` seconds, several at a
    time.
    """

    def __init__(self, three: ThreeDaemons, random: Random, kinds: tuple[str, ...], every: float = 1.0) -> None:
        self._three = three
        self._random = random
        self._kinds = list(kinds)
        self._every = every
        self._struck: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, seconds: float) -> None:
        """Return when this many seconds have passed and every fault has ended."""
        until = asyncio.get_running_loop().time() + seconds
        if "rollbacks" in self._kinds:
            self._tasks.append(asyncio.create_task(self._copy_now_and_then(until)))
        while self._kinds and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self._random.uniform(0.2, 2 * self._every - 0.2))
            kind = self._random.choices(self._kinds, [_WEIGHTS[each] for each in self._kinds])[0]
            self._struck[kind] = self._struck.get(kind, 0) + 1
            if self._struck[kind] <= _MOST.get(kind, 1 << 20):
                self._tasks.append(asyncio.create_task(self._strike(kind)))
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
        await asyncio.gather(*self._tasks)

    def _strike(self, kind: str) -> Coroutine[Any, Any, None]:
        random, name = self._random, self._random.choice(NAMES)
        if kind == "kills":
            return self._three.kill(name, random.choice((0.0, 0.0, random.uniform(0, 4))))
        if kind == "stops":
            return self._three.stop(name, random.uniform(0.3, 6))
        if kind == "rollbacks":
            return self._three.roll_back(name, random.uniform(0, 2))
        if kind == "disks":
            return self._three.empty(name, random.uniform(0, 2))
        return self._spoil(name)

    async def _copy_now_and_then(self, until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self._random.uniform(1, 4))
            await self._three.copy(self._random.choice(NAMES))

    async def _spoil(self, name: str) -> None:
        """Apply a fault to one link, both of a pair, or all of a daemon."""
        random = self._random
        other = random.choice([each for each in NAMES if each != name])
        fault, what = random.choice(_SPOILED)
        if fault is _SLOW:
            fault = slow(random.uniform(0.3, 3))
            what = f"{what}, {fault.delay:.1f} s"
        pairs, where = random.choice(
            (
                ([(name, other)], f"{name} to {other}"),
                ([(name, other), (other, name)], f"between {name} and {other}"),
                ([(name, each) for each in NAMES if each != name], f"{name} to all"),
                ([(each, name) for each in NAMES if each != name], f"all to {name}"),
                ([pair for pair in self._three.links.faults if name in pair], f"between {name} and all"),
            )
        )
        self._three.events.log(f"FAULT {where}: {what}")
        for pair in pairs:
            self._three.links.spoil(*pair, fault)
        await asyncio.sleep(random.choice((random.uniform(0.2, 2), random.uniform(1, 12))))
        self._three.events.log(f"FAULT {where}: well again")
        for pair in pairs:
            self._three.links.spoil(*pair, HEALTHY)


_SLOW = slow(1.0)
_SPOILED: tuple[tuple[Fault, str], ...] = (
    (CUT, "cut"),
    (HALF_OPEN, "half-open"),
    (DEAF, "questions are swallowed"),
    (MUTE, "answers are swallowed"),
    (MUTE, "answers are swallowed"),
    (_SLOW, "slow"),
)
