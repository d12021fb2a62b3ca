"""The command that runs seeds of a simulation, and prints violations and the speed."""

from __future__ import annotations

import argparse
import gc
import shlex
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.simulated.world import Result

_SHOWN = 10


@dataclass(frozen=True)
class Simulation:
    """A simulation: the module to run; its faults and rules; `run` runs a seed with this many daemons,
    these faults, and without a rule, if it is not "".
    """

    module: str
    faults: tuple[str, ...]
    rules: tuple[str, ...]
    run: Callable[[int, int, tuple[str, ...], str], Result]

    def one(self, seed: int, daemons: int, faults: tuple[str, ...], rule: str) -> Result:
        """Run a seed; keep the trace only if it failed."""
        result = self.run(seed, daemons, faults, rule)
        if not result.violations:
            result.trace = []
        return result


def main(simulation: Simulation) -> int:
    """Run the command."""
    return run_seeds(simulation, make_parser(simulation).parse_args())


def make_parser(simulation: Simulation) -> argparse.ArgumentParser:
    """Return the options of every simulation."""
    parser = argparse.ArgumentParser(prog=f"python -m {simulation.module}")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument(
        "--faults", default="all", help="those that may happen, such as partitions,disks [default: all]"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--without", default="", choices=("", *simulation.rules), help="a rule that is not kept")
    parser.add_argument("--show", action="store_true", help="print all that happened in the first run that failed")
    return parser


def faults_of(simulation: Simulation, given: argparse.Namespace) -> tuple[str, ...]:
    """Return the faults that may happen."""
    return tuple(filter(None, given.faults.replace("all", ",".join(simulation.faults)).split(",")))


def run_seeds(
    simulation: Simulation, given: argparse.Namespace, explain: Callable[[Result], None] | None = None
) -> int:
    """Run seeds, and print the result. `explain` prints more about the first one that failed."""
    faults = faults_of(simulation, given)
    seeds = range(given.start, given.start + given.seeds)
    one = partial(simulation.one, daemons=given.daemons, faults=faults, rule=given.without)
    began = time.monotonic()
    excused: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed = []
    _collect_rarely()
    with ProcessPoolExecutor(given.processes, initializer=_collect_rarely) as pool:
        for result in map(one, seeds) if given.processes == 1 else pool.map(one, seeds, chunksize=4):
            excused.update(each.split(":")[0] for each in result.excused)
            counts.update(result.counts)
            if result.violations:
                failed.append(result)
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} seeds of {given.daemons} daemons, {len(seeds) / seconds:.1f}/s, {len(failed)} failed; "
        f"{_format_counts(counts)}; excused: {_format_counts(excused) or 'none'}"
    )
    for result in failed[:_SHOWN]:
        print(f"seed {result.seed}: {'; '.join(result.violations[:3])}")
    if failed and given.show:
        print("\n".join(failed[0].trace))
    elif failed and explain is not None:
        explain(failed[0])
    elif failed:
        print(f"all that happened:\n  {_command(simulation, failed[0].seed, given)}")
    return 1 if failed else 0


def _collect_rarely() -> None:
    """Look for garbage in circles less often than usual: runs make many objects, and few circles."""
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _format_counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))


def _command(simulation: Simulation, seed: int, given: argparse.Namespace) -> str:
    words = ["python", "-m", simulation.module, "--start", str(seed), "--seeds", "1", "--daemons", str(given.daemons)]
    if given.faults != "all":
        words += ["--faults", given.faults]
    if given.without:
        words += ["--without", given.without]
    return shlex.join([*words, "--processes", "1", "--show"])
