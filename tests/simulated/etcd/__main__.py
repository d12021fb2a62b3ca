"""`python -m tests.simulated.etcd --seeds 200 --daemons 3`: run seeds, print violations and the speed."""

from __future__ import annotations

import sys

from tests.simulated.command import Simulation, main
from tests.simulated.etcd.faults import FAULTS
from tests.simulated.etcd.rules import RULES, without
from tests.simulated.etcd.world import EtcdWorld
from tests.simulated.world import Result


def run(seed: int, daemons: int, faults: tuple[str, ...], rule: str) -> Result:
    """Run stateless daemons over one etcd."""
    return EtcdWorld(seed, daemons, faults, *([without(rule)] if rule else ())).run()


if __name__ == "__main__":
    sys.exit(main(Simulation("tests.simulated.etcd", FAULTS, RULES, run)))
