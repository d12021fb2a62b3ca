"""The lives of a few IDs, as `python -m tests.lives` runs many: whatever fails, no two clusters
come to be.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.lives.rounds import Plan, Round
from tests.lives.verdicts import EXCUSED

pytestmark = pytest.mark.process


def test_most_ids_form_a_cluster_and_none_forms_two_through_a_few_seconds_of_faults() -> None:
    lives = Round(Plan(seconds=3, calm=2, fast=10, window=4), 1, 12)
    asyncio.run(lives.run())
    assert sum(lives.verdicts.values()) == 12
    assert lives.verdicts["formed"] > 6, lives.causes
    assert {why for outcome, why in lives.causes if outcome.startswith("two clusters")} <= {EXCUSED}, lives.causes
    assert lives.complaints == lives.late == []
