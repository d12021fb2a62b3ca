"""The search of IDs by operators, at a daemon with peers and beside other work."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from rqdisco.core.errors import TooBusy
from rqdisco.core.records import Node
from rqdisco.core.verdicts import Health, Verdict
from rqdisco.core.views import View
from rqdisco.http.api.cluster_search import (
    SEARCH_PATIENCE_SECONDS,
    SEARCHES_AT_ONCE,
    ClusterList,
    ClusterQuery,
    ClusterSearch,
)
from tests.support.any_daemon import WALL_US
from tests.support.daemon import Daemon, create_id, result
from tests.support.gossip import settle, trio

A, B = Node(addr="10.0.0.1:4001"), Node(addr="10.0.0.2:4001")


class Turns(Clock):
    """A clock that counts turns of the reactor."""

    count = 0

    def callLater(self, *args: Any, **kwargs: Any) -> IDelayedCall:
        self.count += 1
        return super().callLater(*args, **kwargs)


def judge(view: View) -> Verdict:
    """Judge no cluster."""
    return Verdict(Health.UNKNOWN, "not judged here")


def start(search: ClusterSearch, query: ClusterQuery) -> list[ClusterList]:
    """Start a search; return a list that has the result once there is one."""
    found: list[ClusterList] = []
    Deferred.fromCoroutine(search.find(query)).addCallback(found.append)
    return found


def test_each_of_several_daemons_lists_and_finds_the_ids_of_all() -> None:
    clock = Clock()
    _, daemons = trio(clock)
    names = []
    for daemon in daemons:
        creating = Deferred.fromCoroutine(daemon.directory.create())
        settle(clock, 1)
        names.append(result(creating).id)
    settle(clock, 5)
    for daemon in daemons:
        found = start(ClusterSearch(daemon.directory, judge, clock, lambda: WALL_US), ClusterQuery())
        settle(clock, 1)
        assert [each.disco_id for each in found[0].clusters] == sorted(names)


def test_a_node_registered_on_the_owners_behalf_is_found_where_it_registered() -> None:
    clock = Clock()
    network, (first, second) = trio(clock, "ab")

    def do(call: Any) -> Any:
        doing = Deferred.fromCoroutine(call)
        settle(clock, 3)
        return result(doing)

    discovery_id = do(first.directory.create()).id
    do(second.directory.register(discovery_id, A, None))
    network.split("a")
    settle(clock, 3)
    do(second.directory.register(discovery_id, B, None))
    found = start(ClusterSearch(second.directory, judge, clock, lambda: WALL_US), ClusterQuery(search="10.0.0.2:"))
    settle(clock, 1)
    assert [(each.disco_id, each.nodes) for each in found[0].clusters] == [(discovery_id, 2)]


def test_other_work_runs_while_many_ids_are_searched() -> None:
    daemon = Daemon()
    for _ in range(500):
        create_id(daemon)
    turns = Turns()
    found = start(ClusterSearch(daemon.directory, judge, turns, daemon.wall_us), ClusterQuery(limit=1000))
    turns.advance(0)
    assert (len(found[0].clusters), turns.count) == (500, 6), "a turn to compare IDs, and one for each 100 found"


def test_searches_beyond_the_most_at_once_wait_and_are_refused_if_that_takes_long() -> None:
    daemon, turns = Daemon(), Turns()
    for _ in range(500):
        create_id(daemon)
    search = ClusterSearch(daemon.directory, judge, turns, daemon.wall_us)
    found = [start(search, ClusterQuery()) for _ in range(SEARCHES_AT_ONCE + 1)]
    assert turns.count == SEARCHES_AT_ONCE + 1, "a turn of each, and the patience of the last one"
    turns.pump([0] * 20)
    assert [len(each) for each in found] == [1] * len(found)
    waiting = [Deferred.fromCoroutine(search.find(ClusterQuery())) for _ in range(SEARCHES_AT_ONCE + 1)]
    turns.advance(SEARCH_PATIENCE_SECONDS)
    with pytest.raises(TooBusy):
        result(waiting[-1])
