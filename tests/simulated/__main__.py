"""`python -m tests.simulated --seeds 200 --daemons 3`: runs seeds, prints what went wrong and how fast it was."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from rqdisco.peers.assembly import Peered
from tests.simulated.rules import RULES, without
from tests.simulated.world import FAULTS, Result, World


def one(arguments: tuple[int, int, tuple[str, ...], str]) -> Result:
    seed, daemons, faults, rule = arguments
    result = World(seed, daemons, faults, without(rule) if rule else Peered).run()
    if not result.violations:
        result.trace = result.trace[:0]
    return result


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--without", default="", choices=("", *RULES))
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    faults = tuple(filter(None, given.faults.split(",")))
    work = [(seed, given.daemons, faults, given.without) for seed in range(given.start, given.start + given.seeds)]
    began = time.monotonic()
    excused: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed = []
    with ProcessPoolExecutor(given.processes) as pool:
        for result in map(one, work) if given.processes == 1 else pool.map(one, work, chunksize=4):
            excused.update(each.split(":")[0].split(" ")[0] for each in result.excused)
            counts.update(result.counts)
            if result.violations:
                failed.append(result)
    seconds = time.monotonic() - began
    print(
        f"{len(work)} seeds, {len(work) / seconds:.1f}/s, {len(failed)} failed; {dict(counts)}; excused {dict(excused)}"
    )
    for result in failed[:10]:
        print(f"seed {result.seed}: {result.violations[:3]}")
    if failed and given.show:
        print("\n".join(failed[0].trace))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
