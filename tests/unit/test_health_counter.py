"""Counting clusters by health: in small slices, and again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from math import ceil
from typing import cast

import pytest
from twisted.internet.defer import CancelledError, Deferred

from rqdisco.core.directory import Directory
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Record
from rqdisco.core.verdicts import Health, Verdict
from rqdisco.core.views import View
from rqdisco.probes.health_counter import INTERVAL_SECONDS, HealthCounter
from tests.support.daemon import Daemon, create_id, register
from tests.support.etcd.daemon import EtcdDaemon

A = "10.0.0.1:4001"


class Judged:
    """The judge of a daemon; `this_turn` counts its verdicts since it was last set to 0, and `broken`
    makes it fail.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._judge = daemon.judge
        self.this_turn = 0
        self.broken = False

    def __call__(self, view: View) -> Verdict:
        self.this_turn += 1
        if self.broken:
            raise ValueError(view.id)
        return self._judge(view)


def counting(ids: int) -> tuple[Daemon, Judged, HealthCounter]:
    daemon = Daemon()
    for number in range(ids):
        discovery_id = create_id(daemon)
        if number % 3 == 0:
            register(daemon, discovery_id, A)
    judged = Judged(daemon)
    return daemon, judged, HealthCounter(daemon.directory, judged, daemon.clock)


def test_no_turn_of_the_reactor_judges_many_clusters() -> None:
    daemon, judged, counter = counting(210)
    counter.startService()
    most, turns = judged.this_turn, 0
    while counter.counts is None:
        judged.this_turn = 0
        daemon.clock.advance(0.005)
        most, turns = max(most, judged.this_turn), turns + 1
    assert counter.counts == Counter({Health.FORMING: 140, Health.UNKNOWN: 70})
    assert most <= 25
    assert turns >= 210 / 25
    counter.stopService()
    assert not [call for call in daemon.clock.getDelayedCalls() if call.getTime() > daemon.clock.seconds() + 1]


def test_a_busy_daemon_counts_more_slowly() -> None:
    def seconds(late: float) -> float:
        """Return how long a round takes if each timer is so late."""
        daemon, _, counter = counting(210)
        counter.startService()
        began = daemon.clock.seconds()
        while counter.counts is None:
            (timer,) = daemon.clock.getDelayedCalls()
            daemon.clock.advance(timer.getTime() - daemon.clock.seconds() + late)
        counter.stopService()
        return daemon.clock.seconds() - began

    slices = ceil(210 / 25)
    assert seconds(late=0.0) == pytest.approx(slices * 0.005)
    assert seconds(late=0.004) == pytest.approx(slices * (0.005 + 0.004) + (slices - 1) * 4 * 0.004)
    assert seconds(late=10.0) == pytest.approx(0.005 + slices * 10 + (slices - 1) * 0.05)


def test_clusters_are_counted_again_and_the_last_numbers_stay_until_then() -> None:
    daemon, _, counter = counting(3)
    counter.startService()
    daemon.clock.advance(0.005)
    assert counter.counts == Counter({Health.FORMING: 2, Health.UNKNOWN: 1})
    create_id(daemon)
    daemon.clock.advance(INTERVAL_SECONDS - 1)
    assert counter.counts[Health.FORMING] == 2
    daemon.clock.pump([1.0, 0.005])
    assert counter.counts[Health.FORMING] == 3
    counter.stopService()


class Unreadable:
    """A directory whose store takes the end of a request for a lack of an answer, as etcd's client may."""

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        try:
            await Deferred()
        except CancelledError:
            raise StoreUnavailable("no answer in time") from None
        yield []


def test_it_stops_at_once_while_the_store_does_not_answer() -> None:
    daemon = Daemon()
    counter = HealthCounter(cast("Directory", Unreadable()), daemon.judge, daemon.clock)
    counter.startService()
    stopping = counter.stopService()
    assert stopping is not None
    assert stopping.called
    assert not daemon.clock.getDelayedCalls()


def test_a_fault_ends_one_round_only(logged_errors: list[object]) -> None:
    daemon, judged, counter = counting(3)
    judged.broken = True
    counter.startService()
    assert counter.counts is None
    judged.broken = False
    daemon.clock.pump([INTERVAL_SECONDS, 0.005])
    assert counter.counts == Counter({Health.FORMING: 2, Health.UNKNOWN: 1})
    assert len(logged_errors) == 1
    logged_errors.clear()
    counter.stopService()


def test_the_last_numbers_stay_while_etcd_does_not_answer(logged_errors: list[object]) -> None:
    daemon = EtcdDaemon()
    counter = HealthCounter(daemon.directory, daemon.judge, daemon.clock)
    create_id(daemon)
    counter.startService()
    daemon.clock.pump([0.25] * 8)
    assert counter.counts == Counter({Health.FORMING: 1})
    create_id(daemon)
    daemon.cluster.model.stop("m1")
    daemon.clock.pump([1.0] * 60)
    assert counter.counts == Counter({Health.FORMING: 1})
    daemon.cluster.model.start("m1")
    daemon.clock.pump([1.0] * 60)
    assert counter.counts == Counter({Health.FORMING: 2})
    assert not logged_errors
    counter.stopService()
