"""Limits of time are relative to what a machine does at the moment."""

from __future__ import annotations

import pytest

from tests.support.reference import WORK_SECONDS, Reference, slowdown


@pytest.mark.parametrize(("longest", "times"), [(0.0, 1.0), (WORK_SECONDS, 1.0), (10 * WORK_SECONDS, 10.0)])
def test_a_machine_is_as_slow_as_its_longest_piece_of_work(longest: float, times: float) -> None:
    assert slowdown(longest) == pytest.approx(times)


def test_a_limit_is_never_shorter_than_on_an_idle_machine_and_grows_with_the_work() -> None:
    with Reference() as reference:
        short, long = reference.limit(8.0, 1.0), reference.limit(8.0, 2.0)
    assert 8.0 <= short <= long
    assert short - 8.0 <= long - short + 1e-6
