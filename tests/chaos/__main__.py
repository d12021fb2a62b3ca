"""`python -m tests.chaos --ids 300 --seed 1`: run IDs under faults, print their outcomes and the
events of each without a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter

from tests.chaos.daemons import NeverAgree
from tests.chaos.faults import FAULTS
from tests.chaos.rounds import Plan, Round


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--ids", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=150, help="lives of a round, which has daemons of its own")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long there are faults in a round")
    parser.add_argument("--calm", type=float, default=25.0, help="how long nodes then go on before they are judged")
    parser.add_argument("--fast", type=float, default=5.0, help="how many times as fast as rqlite nodes are")
    parser.add_argument("--retry-window", type=float, default=6.0, help="the daemons' option, in seconds")
    parser.add_argument("--faults", default=",".join(FAULTS), help="those that there may be [default: all]")
    parser.add_argument("--out", default="", help="a directory for the stories [default: they are printed]")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        at_once=given.at_once,
        seconds=given.seconds,
        calm=given.calm,
        fast=given.fast,
        window=given.retry_window,
        faults=tuple(given.faults.split(",")),
        out=given.out,
    )
    # So that daemons are killed, and their disks removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    total: Counter[str] = Counter()
    causes: Counter[tuple[str, str]] = Counter()
    complaints: Counter[str] = Counter()
    slow, late = 0, []
    for number in range((given.ids + given.at_once - 1) // given.at_once):
        each = Round(plan, number, min(given.at_once, given.ids - number * given.at_once))
        began = time.monotonic()
        try:
            asyncio.run(each.run())
        except NeverAgree as error:
            print(f"round {number} ({', '.join(each.faults)}): the daemons never agree: {error}", flush=True)
            continue
        total += each.verdicts
        causes += each.causes
        slow += each.slow
        late += each.late
        complaints.update(each.complaints)
        print(
            f"round {number} ({', '.join(each.faults)}): {_format_counts(each.verdicts)};"
            f" {time.monotonic() - began:.0f} s",
            flush=True,
        )
    print(f"{sum(total.values())} lives: {_format_counts(total)}; {slow} formed late")
    for (outcome, why), count in causes.most_common():
        print(f"{count} {outcome}: {why}")
    for _, text in late:
        print(f"late: {text}")
    for text, times in complaints.most_common(20):
        print(f"{times} times: {text}")
    return 0 if not total["two clusters"] else 1


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
