"""`python -m tests.simulated --seeds 200 --daemons 3`: run seeds, print violations and the speed;
or walk through one run, record it as a schedule, or replay a schedule.
"""

from __future__ import annotations

import argparse
import pydoc
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.simulated.command import Simulation, faults_of, make_parser, run_seeds
from tests.simulated.faults import FAULTS
from tests.simulated.rules import RULES, without
from tests.simulated.schedule import Schedule, read_schedule
from tests.simulated.shrink import Shrinker
from tests.simulated.steps import Steps
from tests.simulated.world import Result, World


def run(seed: int, daemons: int, faults: tuple[str, ...], rule: str) -> Result:
    """Run daemons that are peers."""
    return World(seed, daemons, faults, *_make(rule)).run()


SIMULATION = Simulation("tests.simulated", FAULTS, RULES, run)


def main() -> int:
    parser = make_parser(SIMULATION)
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this schedule, not a seed")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the schedule of the run")
    parser.add_argument("--shrink", action="store_true", help="leave out what is not needed for the run to fail")
    parser.add_argument("--step", action="store_true", help="print each input of each daemon and its effects")
    parser.add_argument("--from", dest="begin", type=float, default=0.0, metavar="TIME", help="the first step")
    parser.add_argument("--until", type=float, default=1e9, metavar="TIME", help="the last step")
    parser.add_argument("--all", action="store_true", help="print steps that change nothing, too")
    given = parser.parse_args()
    if given.seed is None and given.replay is None:
        if given.step or given.record or given.shrink:
            parser.error("--step, --record and --shrink need --seed or --replay")
        return run_seeds(SIMULATION, given, partial(_explain, given))
    return _run_one(given)


def _run_one(given: argparse.Namespace) -> int:
    """Run one seed or schedule."""
    subject = read_schedule(given.replay) if given.replay is not None else given.seed
    if given.shrink:
        subject = _shrunk(_world(given, subject), given.without)
    world = _world(given, subject, Steps(given.begin, given.until, shows_all=given.all) if given.step else None)
    result = world.run()
    if given.record is not None:
        world.schedule.without_unused().write(given.record)
    if world.steps is not None:
        world.steps.end()
        pydoc.pager("\n".join(world.steps.lines) + "\n")
    elif given.show:
        print("\n".join(result.trace))
    for violation in result.violations:
        print(violation)
    print(f"{len(result.violations)} violations; excused: {'; '.join(result.excused) or 'none'}")
    return 1 if result.violations else 0


def _explain(given: argparse.Namespace, failed: Result) -> None:
    """Print the shrunk schedule of a run that failed, and its steps up to the failure."""
    schedule = _shrunk(_world(given, failed.seed), given.without)
    steps = Steps()
    _world(given, schedule, steps).run()
    steps.end()
    print(f"\nseed {failed.seed}, what is needed for it to fail:\n")
    print("\n".join(line.decode() for line in schedule.lines()))
    print("\nthe steps up to its failure, without those that change nothing:\n")
    print("\n".join(steps.lines[: _first_violation(steps.lines)]))
    words = f"--seed {failed.seed} --daemons {given.daemons} --faults {given.faults}"
    words += f" --without '{given.without}'" if given.without else ""
    print(f"\nto walk through it:\n  python -m tests.simulated {words} --step")
    print(f"to keep it (docs/simulation.md):\n  python -m tests.simulated {words} --shrink --record FILE")


def _first_violation(lines: list[str]) -> int:
    return next((number + 1 for number, line in enumerate(lines) if "VIOLATION" in line), len(lines))


def _world(given: argparse.Namespace, subject: Any, steps: Steps | None = None) -> World:
    faults = faults_of(SIMULATION, given)
    return World(subject, given.daemons, faults, *_make(given.without), steps=steps)


def _make(rule: str) -> tuple[Any, ...]:
    return (without(rule),) if rule else ()


def _shrunk(world: World, rule: str) -> Schedule:
    def run_schedule(schedule: Schedule) -> tuple[set[str], Schedule]:
        replayed = World(schedule, 3, FAULTS, *_make(rule))
        return {each.split(" ")[1] for each in replayed.run().violations}, replayed.schedule

    world.run()
    return Shrinker(run_schedule).shrink(world.schedule.without_unused())


if __name__ == "__main__":
    sys.exit(main())
