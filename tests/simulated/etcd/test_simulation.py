"""The simulation of the etcd backend, for as long as a test may take; `make simulate` runs many
more seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.simulated.etcd.faults import FAULTS
from tests.simulated.etcd.rules import RULES, without
from tests.simulated.etcd.world import EtcdWorld

SEEDS = 6


@pytest.mark.parametrize("daemons", [2, 3, 4])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_promise_is_broken_by_any_fault_of_daemons_or_of_etcd(daemons: int, seed: int) -> None:
    result = EtcdWorld(seed, daemons).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(3))
def test_every_cluster_forms_and_no_write_is_refused_without_faults(seed: int) -> None:
    result = EtcdWorld(seed, 3, ()).run()
    assert result.violations == []
    assert result.excused == []
    refusals = [line for line in result.trace if ": no, " in line]
    assert all("does not exist" in line for line in refusals), "only of names before their first claim"


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    code = "from tests.simulated.etcd.world import EtcdWorld; print(EtcdWorld(8, 4).run().digest)"
    digests = set()
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        digests.add(run.stdout)
    assert len(digests) == 1


@dataclass(frozen=True)
class Noticed:
    """A rule, the faults that make it matter, how its absence shows, and a seed that shows it."""

    rule: str
    shows: str
    faults: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        return self.rule


NOTICED = (
    Noticed("E1 compare", "I1", FAULTS, 1),
    Noticed("E1 read", "E1", ("answers",), 4),
    Noticed("E2 unknown", "I3", ("members", "replacements", "requests"), 8),
    Noticed("E2 nonce", "I9", ("errors", "requests", "replacements"), 1),
    Noticed("E3 lease", "I3", ("removals", "crashes"), 0),
    Noticed("E3 revoking", "I3", ("answers", "replacements"), 29),
    Noticed("E3 removal", "E3", ("removals", "answers"), 10),
    Noticed("E3 late", "E3", ("removals", "stalls"), 30),
    Noticed("E4", "E4", ("clocks", "wipes"), 7),
    Noticed("E5", "E5", ("removals", "requests"), 2),
    Noticed("E8 epoch", "I1", ("restores",), 19),
    Noticed("E8 revision", "E8", ("unannounced",), 19),
)
# Changes of the code may change what a seed does: then others are tried.
MORE_SEEDS = 60


@pytest.mark.parametrize("noticed", NOTICED, ids=str)
def test_a_disabled_rule_is_noticed(noticed: Noticed) -> None:
    for seed in (noticed.seed, *range(MORE_SEEDS)):
        broken = EtcdWorld(seed, 3, noticed.faults, without(noticed.rule)).run()
        if noticed.shows in broken.kinds:
            whole = EtcdWorld(seed, 3, noticed.faults).run()
            assert whole.violations == []
            if noticed.shows not in whole.kinds:
                return
    pytest.fail(f"{noticed.rule} makes no difference")


def test_every_rule_has_a_proof() -> None:
    assert sorted(noticed.rule for noticed in NOTICED) == sorted(RULES)
