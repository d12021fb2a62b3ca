"""What tests of several daemons share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from tests.support.peered import Three, settle, trio


@pytest.fixture
def clock() -> Clock:
    """The time of all daemons."""
    return Clock()


@pytest.fixture
def three(clock: Clock) -> Iterator[Three]:
    """Three daemons that know each other."""
    network, daemons = trio(clock)
    yield network, daemons
    for daemon in network.daemons.values():
        daemon.stop()
    settle(clock, 1)
