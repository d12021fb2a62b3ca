"""Every schedule of a small world: two daemons, one ID, two addresses, and few faults.

    python -m tests.simulated.small_world --minutes 10

Breadth-first over states: a state already seen is not expanded again. Two states are equal if the
daemons (`copies.CanonicalForm`), the messages under way and what clients were told are equal.

Any message may arrive at any moment, in any order; any write may end at any moment, in order. Each
daemon has a clock of its own, which stands still until a tick sets it to the next moment for which
the daemon wants to be woken; the number of ticks is bounded. So any message may be slower or faster
than any timer, and clocks may run apart. Wall clocks stand still, as they only issue versions.
"""

from __future__ import annotations

import argparse
import gc
import sys

from tests.simulated.small_rules import RULES, without
from tests.simulated.small_search import Found, search, show
from tests.simulated.small_state import Bounds
from tests.simulated.small_steps import SmallWorld


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulated.small_world", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=2, help="of each address")
    for name, default in (("crashes", 1), ("losses", 1), ("removals", 0), ("ticks", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--roll-back", action="store_true", help="a crash may lose the last write that the disk had")
    parser.add_argument("--begun", action="store_true", help="the first address was told to bootstrap before")
    parser.add_argument("--retry-window", type=int, default=30_000, metavar="MS")
    parser.add_argument("--without", choices=RULES, help="turn a rule off")
    given = parser.parse_args(args)
    bounds = Bounds(
        requests=given.requests,
        crashes=given.crashes,
        losses=given.losses,
        removals=given.removals,
        ticks=given.ticks,
        may_roll_back=given.roll_back,
        retry_window_ms=given.retry_window,
        has_begun=given.begun,
    )
    gc.disable()
    with without(given.without):
        small = SmallWorld(bounds)
        found = search(small, seconds=given.minutes * 60, depth=given.depth, progress=_print_progress)
        print(_summary(found))
        if found.violation is None:
            return 0
        print(found.violation.text)
        show(small, found.violation.path, print)
    return 1


def _print_progress(depth: int, states: int) -> None:
    print(f"{states:,} states after {depth} events", file=sys.stderr, flush=True)


def _summary(found: Found) -> str:
    extent = "the whole space" if found.is_exhausted else "not the whole space"
    return (
        f"{found.states:,} states, {found.steps:,} steps, {found.daemon_states:,} states of daemons, "
        f"{found.depth} events deep, {extent}, {found.seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
