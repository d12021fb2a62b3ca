"""The small world: every schedule near the beginning keeps the promises, and without a rule one that
does not is found.
"""

from __future__ import annotations

import pytest

from tests.simulated.small_rules import without
from tests.simulated.small_search import search, show
from tests.simulated.small_state import Bounds
from tests.simulated.small_steps import SmallWorld

SECONDS = 60.0
CALM = Bounds(requests=1, crashes=0, losses=0, ticks=0)


def test_without_faults_every_schedule_is_safe() -> None:
    found = search(SmallWorld(CALM), seconds=SECONDS)

    assert found.violation is None
    assert found.is_exhausted
    assert found.states > 1000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(requests=2, crashes=1, losses=1, ticks=1),
        Bounds(requests=1, crashes=1, losses=1, ticks=1, may_roll_back=True),
        Bounds(requests=1, crashes=0, losses=1, ticks=1, removals=1, has_begun=True),
    ],
    ids=["crash", "older disk", "removal"],
)
def test_with_faults_the_first_steps_of_every_schedule_are_safe(bounds: Bounds) -> None:
    found = search(SmallWorld(bounds), seconds=SECONDS, depth=6)

    assert found.violation is None
    assert found.depth == 6


@pytest.mark.parametrize(
    ("rule", "bounds", "kind"),
    [
        ("R1", CALM, "b logs: conflicting records"),
        ("R3", Bounds(requests=1, crashes=0, losses=1, ticks=0), "I4"),
        ("R6 durable", Bounds(requests=1, crashes=1, losses=0, ticks=0), "I1"),
        ("R6 acknowledged", Bounds(requests=1, crashes=1, losses=0, ticks=0, may_roll_back=True), "I4"),
        ("R8", Bounds(requests=1, crashes=1, losses=0, ticks=0, may_roll_back=True), "I4"),
    ],
)
def test_without_a_rule_a_violation_is_found(rule: str, bounds: Bounds, kind: str) -> None:
    shown: list[str] = []
    with without(rule):
        small = SmallWorld(bounds)
        found = search(small, seconds=SECONDS)

        assert found.violation is not None
        assert found.violation.text.startswith(kind)
        show(small, found.violation.path, shown.append)

    assert shown[-1] == f"VIOLATION {found.violation.text}"
    assert any("-> ClientReply" in each for each in shown) or kind != "I1"
