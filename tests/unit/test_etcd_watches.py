"""WatchHub of single IDs through etcd, for event streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.etcd.asking import A, B, C, create, register
from tests.support.etcd.daemon import Cluster, opened


class Watching:
    """Two daemons over three members of etcd; IDs are watched at the first one."""

    def __init__(self) -> None:
        self.cluster = Cluster(members=3)
        self.first, self.second = opened(self.cluster, seed=1), opened(self.cluster, seed=2)
        self.changes: list[str] = []

    def watch(self, discovery_id: str) -> Callable[[], None]:
        return self.first.directory.watch(discovery_id, lambda: self.changes.append(discovery_id))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.cluster.clock.advance(0.02)

    def seen(self) -> list[str]:
        """Return the changes since the last call."""
        seen, self.changes[:] = self.changes[:], []
        return seen


@pytest.fixture
def watching() -> Watching:
    return Watching()


def watched(watching: Watching) -> str:
    discovery_id = create(watching.first)
    watching.watch(discovery_id)
    watching.wait(0.1)
    watching.seen()
    return discovery_id


def test_a_change_at_another_daemon_is_seen_at_once(watching: Watching) -> None:
    discovery_id = watched(watching)
    register(watching.second, discovery_id, A)
    assert watching.seen() == [discovery_id]


def test_a_change_before_etcd_watches_is_not_missed(watching: Watching) -> None:
    discovery_id = create(watching.first)
    watching.watch(discovery_id)
    register(watching.second, discovery_id, A)
    watching.wait(0.1)
    assert watching.seen() == [discovery_id]


def test_a_thousand_ids_are_watched_over_few_connections(watching: Watching) -> None:
    ids = [create(watching.first) for _ in range(1000)]
    for discovery_id in ids:
        watching.watch(discovery_id)
    watching.wait(0.1)
    assert watching.first.streams.opened == watching.first.watches.streams == 2
    watching.seen()
    register(watching.second, ids[7], A)
    assert watching.seen() == [ids[7]]


def test_changes_are_not_missed_while_a_connection_was_broken(watching: Watching) -> None:
    discovery_id = watched(watching)
    watching.cluster.model.break_streams()
    register(watching.second, discovery_id, A)
    assert watching.seen() == []
    watching.wait(1.5)
    assert watching.seen() == [discovery_id]
    register(watching.second, discovery_id, B)
    assert watching.seen() == [discovery_id]


def test_a_member_that_was_cut_off_is_left_for_another_one(watching: Watching) -> None:
    discovery_id = watched(watching)
    watching.cluster.model.cut_off("m1")
    register(watching.second, discovery_id, A)
    watching.wait(1)
    assert watching.seen() == [], "its watch is silent"
    watching.cluster.model.notice()
    watching.wait(3)
    assert discovery_id in watching.seen()
    register(watching.second, discovery_id, B)
    watching.wait(2)
    assert discovery_id in watching.seen()


def test_a_compacted_store_is_no_reason_to_miss_a_change(watching: Watching) -> None:
    discovery_id = watched(watching)
    watching.cluster.model.break_streams()
    for addr in (A, B, C):
        register(watching.second, discovery_id, addr)
    watching.cluster.model.keyspace.compact(watching.cluster.model.keyspace.revision)
    watching.wait(3)
    assert discovery_id in watching.seen()
    register(watching.second, discovery_id, A)
    assert watching.seen() == [discovery_id]


def test_an_id_that_nobody_watches_any_more_costs_nothing(watching: Watching) -> None:
    ends = [watching.watch(create(watching.first)) for _ in range(3)]
    watching.wait(0.1)
    for end in ends:
        end()
        end()
    watching.wait(2)
    assert watching.first.watches.streams == 0
    assert watching.cluster.model.streams == []


def test_a_daemon_that_stops_leaves_no_watch(watching: Watching) -> None:
    watched(watching)
    watching.first.stop()
    watching.wait(3)
    assert watching.cluster.model.streams == []


def test_an_id_is_watched_by_several_and_each_is_told(watching: Watching) -> None:
    discovery_id = watched(watching)
    end = watching.watch(discovery_id)
    register(watching.second, discovery_id, A)
    assert watching.seen() == [discovery_id] * 2
    end()
    register(watching.second, discovery_id, B)
    assert watching.seen() == [discovery_id]
