"""What the simulator proves of the real code in the time a test may take; `make simulate` runs many more seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulated.rules import without
from tests.simulated.world import FAULTS, World

SEEDS = 6


@pytest.fixture(autouse=True)
def forget_alarms(logged_errors: list[Any]) -> Iterator[None]:
    """Twins and clashes are errors to daemons, and meant to be here."""
    yield
    logged_errors.clear()


@pytest.mark.parametrize("daemons", [2, 3, 5])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_promise_is_broken_whatever_fails(daemons: int, seed: int) -> None:
    result = World(seed, daemons, FAULTS).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_every_cluster_forms_and_nobody_is_refused(seed: int) -> None:
    result = World(seed, 3, ()).run()
    assert result.violations == []
    assert result.excused == []
    assert "refused" not in result.counts


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    code = "from tests.simulated.world import World; print(World(7, 3).run().digest)"
    digests = set()
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        digests.add(run.stdout)
    assert len(digests) == 1


# A rule, what must fail for it to matter, and how many seeds show it.
NOTICED = [
    ("R1", ("answers", "partitions"), 10),
    ("R3", ("partitions", "crashes"), 40),
    ("R4", ("partitions", "answers"), 10),
    ("R6 acknowledgement", ("rollbacks", "wipes"), 40),
    ("R8 fence", ("copies", "removals"), 60),
    ("R5a", ("answers",), 40),
]


@pytest.mark.parametrize(("rule", "faults", "seeds"), NOTICED)
def test_a_rule_that_is_not_kept_is_noticed(rule: str, faults: tuple[str, ...], seeds: int) -> None:
    for seed in range(seeds):
        broken = World(seed, 3, faults, without(rule)).run()
        kept = World(seed, 3, faults).run()
        assert kept.violations == []
        residue = {each.split(":")[0].split(" ")[0] for each in broken.excused}
        if broken.violations or (residue & {"rollback", "answer"}) - {each.split(":")[0] for each in kept.excused}:
            return
    pytest.fail(f"{rule} makes no difference")
