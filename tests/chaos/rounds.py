"""Concurrent lifecycles at three daemons of their own, and the outcome of each."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.chaos.daemons import ThreeDaemons
from tests.chaos.event_log import format_stories
from tests.chaos.faults import FAULTS, Faults
from tests.chaos.lifecycle import Lifecycle
from tests.chaos.nodes import Pace
from tests.chaos.verdicts import ENDS_WELL, cause, verdict

_DRAIN_SECONDS = 2.0
# Not all faults at all times: a mild round is easier to explain.
_ROUNDS = (("links",), ("links", "kills"), ("links", "kills", "stops"), FAULTS[:4], (*FAULTS[:3], "disks"), FAULTS)


@dataclass(frozen=True)
class Plan:
    """The settings of the rounds.

    There are faults for `seconds`, and lifecycles begin meanwhile; nodes, `fast` times as fast as
    rqlite's, continue for `calm` seconds before they are judged, and as long again where one has no
    cluster. `window` is the daemons' option. Logs are written to the directory `out`, or printed.
    """

    seed: int = 1
    at_once: int = 150
    seconds: float = 30.0
    calm: float = 25.0
    fast: float = 5.0
    window: float = 6.0
    faults: tuple[str, ...] = FAULTS
    out: str = ""


class Round:
    """Several lifecycles of a plan; `number` chooses the faults, among the permitted ones.

    `slow` counts those that formed only when nodes had continued for longer, `late` the answers
    that took too long.
    """

    def __init__(self, given: Plan, number: int, count: int) -> None:
        self.given = given
        self.number = number
        self.random = Random(f"{given.seed} {number}")
        kinds = _ROUNDS[number % len(_ROUNDS)]
        self.faults = tuple(each for each in kinds if each in given.faults) or ("links",)
        self.first = number * given.at_once
        self.count = count
        self.lifecycles: list[Lifecycle] = []
        self.verdicts: Counter[str] = Counter()
        self.causes: Counter[tuple[str, str]] = Counter()
        self.slow = 0
        self.complaints: list[str] = []
        self.late: list[tuple[float, str]] = []

    async def run(self) -> None:
        given = self.given
        with tempfile.TemporaryDirectory(prefix="rqdisco-lives-") as directory:
            async with ThreeDaemons(Path(directory), given.window) as three:
                begun = time.time()
                pace = Pace(given.fast)
                seeds = Random(self.random.random())
                self.lifecycles = [
                    Lifecycle(self.first + number, three, Random(seeds.random()), pace, given.seconds)
                    for number in range(self.count)
                ]
                running = [asyncio.create_task(self._run_lifecycle(lifecycle)) for lifecycle in self.lifecycles]
                faults = Faults(three, Random(self.random.random()), self.faults)
                await faults.run(given.seconds)
                await three.heal()
                await asyncio.wait(running, timeout=60)
                await self._wait(given.calm)
                before = {lifecycle.number for lifecycle in self.lifecycles if verdict(lifecycle) not in ENDS_WELL}
                if before:
                    # Would it have formed with more time?
                    await self._wait(given.calm)
                await self._judge(three, begun, before)
                for lifecycle in self.lifecycles:
                    await lifecycle.end()
                for task in running:
                    task.cancel()
                self.complaints = three.complaints

    async def _run_lifecycle(self, lifecycle: Lifecycle) -> None:
        await asyncio.sleep(self.random.uniform(0, max(0.0, self.given.seconds - 5)))
        await lifecycle.run()
        lifecycle.is_over = True

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(_DRAIN_SECONDS / 4)
            if all(lifecycle.is_over and lifecycle.is_formed for lifecycle in self.lifecycles):
                return

    async def _judge(self, three: ThreeDaemons, begun: float, before: set[int]) -> None:
        for lifecycle in self.lifecycles:
            outcome = verdict(lifecycle)
            self.verdicts[outcome] += 1
            self.late += lifecycle.requester.late
            if outcome in ENDS_WELL and lifecycle.is_over:
                self.slow += lifecycle.number in before
                continue
            records = await lifecycle.records()
            owner = next((each for each in records.values() if each and each["home_heard"] == 0.0), None)
            why = cause(lifecycle, three, owner)
            if not lifecycle.is_over:
                outcome = f"{outcome}, with an operator who still waits"
            self.causes[outcome, why] += 1
            facts = f"{outcome}: {why}; {lifecycle.kind}; {', '.join([*lifecycle.operations, *self.faults])}"
            print(f"life {lifecycle.number}: {facts}", flush=True)
            lines = [
                f"===== life {lifecycle.number} of seed {self.given.seed}: {facts}",
                lifecycle.describe(),
                format_stories([lifecycle.events, three.events, three.log_of(lifecycle.id)], begun),
                *(f"record at {name}: {record}" for name, record in records.items()),
                *three.journal_of(lifecycle.id),
                "",
            ]
            self._keep(f"{outcome}-{self.given.seed}-{lifecycle.number}.txt".replace(" ", "-"), "\n".join(lines))

    def _keep(self, name: str, text: str) -> None:
        if not self.given.out:
            print(text)
            return
        path = Path(self.given.out)
        path.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
