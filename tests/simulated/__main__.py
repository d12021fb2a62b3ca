"""`python -m tests.simulated --seeds 200 --daemons 3`: run seeds, print violations and the
speed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulated.faults import FAULTS
from tests.simulated.rules import RULES, without
from tests.simulated.world import Result, World

_SHOWN = 10


def one(arguments: tuple[int, int, tuple[str, ...], str]) -> Result:
    seed, daemons, faults, rule = arguments
    result = World(seed, daemons, faults, *([without(rule)] if rule else ())).run()
    if not result.violations:
        result.trace = []
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulated")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument(
        "--faults", default="all", help="those that may happen, such as partitions,disks [default: all]"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--without", default="", choices=("", *RULES), help="a rule that is not kept")
    parser.add_argument("--show", action="store_true", help="print all that happened in the first run that failed")
    given = parser.parse_args()
    faults = tuple(filter(None, given.faults.replace("all", ",".join(FAULTS)).split(",")))
    work = [(seed, given.daemons, faults, given.without) for seed in range(given.start, given.start + given.seeds)]
    began = time.monotonic()
    excused: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed = []
    with ProcessPoolExecutor(given.processes) as pool:
        for result in map(one, work) if given.processes == 1 else pool.map(one, work, chunksize=4):
            excused.update(each.split(":")[0] for each in result.excused)
            counts.update(result.counts)
            if result.violations:
                failed.append(result)
    seconds = time.monotonic() - began
    print(
        f"{len(work)} seeds of {given.daemons} daemons, {len(work) / seconds:.1f}/s, {len(failed)} failed; "
        f"{_format_counts(counts)}; excused: {_format_counts(excused) or 'none'}"
    )
    for result in failed[:_SHOWN]:
        print(f"seed {result.seed}: {'; '.join(result.violations[:3])}")
    if failed and given.show:
        print("\n".join(failed[0].trace))
    elif failed:
        print(
            "all that happened, and a test to keep (tests/simulated/regressions.py):\n"
            f"  {_command(failed[0].seed, given)}"
        )
    return 1 if failed else 0


def _format_counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))


def _command(seed: int, given: argparse.Namespace) -> str:
    words = ["python", "-m", "tests.simulated", "--start", str(seed), "--seeds", "1", "--daemons", str(given.daemons)]
    if given.faults != "all":
        words += ["--faults", given.faults]
    if given.without:
        words += ["--without", given.without]
    return shlex.join([*words, "--processes", "1", "--show"])


if __name__ == "__main__":
    sys.exit(main())
