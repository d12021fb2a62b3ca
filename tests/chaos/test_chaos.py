"""A short run of `python -m tests.chaos`: no fault leads to two clusters."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.requests import ANSWER_SECONDS
from tests.chaos.rounds import Plan, Round
from tests.chaos.verdicts import EXCUSED
from tests.support.reference import Reference

pytestmark = pytest.mark.process


def test_most_ids_form_a_cluster_and_none_forms_two_through_a_few_seconds_of_faults() -> None:
    lifecycles = Round(Plan(seconds=3, calm=2, fast=10, window=4), 1, 12)
    with Reference() as reference:
        asyncio.run(lifecycles.run())
        limit = reference.limit(ANSWER_SECONDS)
    assert sum(lifecycles.verdicts.values()) == 12
    assert lifecycles.verdicts["formed"] > 6, lifecycles.causes
    assert {why for outcome, why in lifecycles.causes if outcome.startswith("two clusters")} <= {EXCUSED}, (
        lifecycles.causes
    )
    assert lifecycles.complaints == [text for seconds, text in lifecycles.late if seconds > limit] == []
