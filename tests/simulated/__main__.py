"""`python -m tests.simulated --seeds 200 --daemons 3`: run seeds, print violations and the
speed.
"""

from __future__ import annotations

import sys

from tests.simulated.command import Simulation, main
from tests.simulated.faults import FAULTS
from tests.simulated.rules import RULES, without
from tests.simulated.world import Result, World


def run(seed: int, daemons: int, faults: tuple[str, ...], rule: str) -> Result:
    """Run daemons that are peers."""
    return World(seed, daemons, faults, *([without(rule)] if rule else ())).run()


if __name__ == "__main__":
    sys.exit(main(Simulation("tests.simulated", FAULTS, RULES, run)))
