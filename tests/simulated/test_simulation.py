"""What the simulator proves of the real code in the time a test may take; `make simulate` runs many
more seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.simulated.faults import EXPIRY, FAULTS
from tests.simulated.regressions import REGRESSIONS, Regression
from tests.simulated.rules import RULES, without
from tests.simulated.world import World

SEEDS = 6


@pytest.fixture(autouse=True)
def forget_alarms(logged_errors: list[Any]) -> Iterator[None]:
    """Duplicates and conflicts are errors to daemons, and intended here."""
    yield
    logged_errors.clear()


@pytest.mark.parametrize("daemons", [2, 3, 5])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_promise_is_broken_by_any_fault(daemons: int, seed: int) -> None:
    result = World(seed, daemons, FAULTS).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(4))
def test_no_promise_is_broken_where_unused_ids_are_forgotten(seed: int) -> None:
    result = World(seed, 3, (*FAULTS, EXPIRY)).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(3))
def test_every_cluster_forms_and_nobody_is_refused_without_faults(seed: int) -> None:
    result = World(seed, 3, ()).run()
    assert result.violations == []
    assert result.excused == []
    assert "refused" not in result.counts


def test_a_daemon_that_finds_no_room_at_its_start_starts_once_there_is_some() -> None:
    trace = World(34, 2, ("disks", "full", "crashes")).run().trace
    assert any("cannot start" in line for line in trace)
    assert not any("another rqdisco runs on this directory" in line for line in trace)


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    code = "from tests.simulated.world import World; print(World(7, 3).run().digest)"
    digests = set()
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        digests.add(run.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("regression", REGRESSIONS, ids=str)
def test_a_fixed_bug_has_not_come_back(regression: Regression) -> None:
    result = World(regression.seed, regression.daemons, regression.faults).run()
    assert result.violations == [], f"{regression.why}\n" + "\n".join(result.trace)


@dataclass(frozen=True)
class Noticed:
    """A rule, the fault that makes it matter, how its absence shows, and a seed that shows it."""

    rule: str
    shows: str
    faults: tuple[str, ...]
    seed: int
    daemons: int = 3

    def __str__(self) -> str:
        return self.rule


NOTICED = (
    Noticed("R1", "I1", ("answers", "partitions"), 14),
    Noticed("R2 incarnation", "I3", ("disks",), 10),
    Noticed("R2 late", "I4", ("answers", "removals"), 124),
    Noticed("R2 once", "I4", ("repeats", "removals"), 140),
    Noticed("R3", "I1", ("partitions", "crashes"), 10),
    Noticed("R4", "I4", ("partitions", "answers"), 2),
    Noticed("R4 refusal", "R4", ("answers", "partitions", "removals", "crashes"), 24),
    Noticed("R5a", "answer", ("answers",), 1),
    Noticed("R5b", "I1", ("partitions", "removals"), 247),
    Noticed("R5c hidden", "R5c", ("answers",), 5),
    Noticed("R5c again", "I3", ("answers",), 5),
    Noticed("R6 shown", "R6", ("answers", "crashes"), 0),
    Noticed("R6 acknowledgement", "rollback", ("rollbacks",), 11),
    Noticed("R6 revoking", "I3", ("answers", "replacements"), 1),
    Noticed("R7", "I1", ("partitions", "disks"), 13, daemons=2),
    Noticed("R8 restart", "I1", ("rollbacks", "partitions"), 98, daemons=2),
    Noticed("R8 own hints", "R8", ("answers", "partitions", "crashes", "stalls"), 695, daemons=2),
    Noticed("R8 fence", "R8", ("copies", "removals"), 27),
    Noticed("R9 arrival", "R9", ("removals",), 11),
    Noticed("R9 owner", "I9", ("removals", "partitions"), 9),
    Noticed("P7 emptied", "I4", ("removals", EXPIRY), 18),
    Noticed("P7 tried", "I5", ("partitions", "answers", "stalls", "crashes", "replacements", "wipes", EXPIRY), 153),
    Noticed("P7 published", "I5", (EXPIRY,), 0),
    Noticed("P7 taken", "I5", ("partitions", "stalls", "answers", EXPIRY), 12),
)
# Changes of the code may change what a seed does: then others are tried.
MORE_SEEDS = 40


@pytest.mark.parametrize("noticed", NOTICED, ids=str)
def test_a_disabled_rule_is_noticed(noticed: Noticed) -> None:
    for seed in (noticed.seed, *range(MORE_SEEDS)):
        broken = World(seed, noticed.daemons, noticed.faults, without(noticed.rule)).run()
        if noticed.shows in broken.kinds:
            regression = World(seed, noticed.daemons, noticed.faults).run()
            assert regression.violations == []
            if noticed.shows not in regression.kinds:
                return
    pytest.fail(f"{noticed.rule} makes no difference")


def test_every_rule_has_a_proof() -> None:
    assert sorted(noticed.rule for noticed in NOTICED) == sorted(RULES)
