"""An ID that its owner forgets because it never had a node is forgotten by all its peers, and by
nobody else's decision.
"""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Delta, Page
from rqdisco.core.errors import NoSuchID
from tests.support.daemon import DAY, result
from tests.support.gossip import (
    DirectNetwork,
    GossipDaemon,
    Three,
    create_id,
    go,
    listed,
    older,
    register,
    settle,
    trio,
    wait,
)

MINUTES = 60 / DAY
# The owner checks each minute, and so do its peers once they were informed.
OVER = 320


@pytest.fixture
def three(clock: Clock) -> Three:
    """Daemons that forget after three minutes, and check each minute."""
    return trio(clock, unused_days=3 * MINUTES)


def holds(daemon: GossipDaemon, discovery_id: str) -> bool:
    return daemon.store.settled(discovery_id) is not None


def test_an_id_that_its_owner_forgets_is_gone_everywhere(clock: Clock, three: Three) -> None:
    _, daemons = three
    a, b, _ = daemons
    unused, used = create_id(a), create_id(a)
    register(a, used, "10.0.0.1:4001")
    settle(clock, 180)
    assert all(holds(each, unused) for each in daemons)
    settle(clock, OVER - 180)
    assert not any(holds(each, unused) for each in daemons)
    assert [listed(each, used) for each in daemons] == [["10.0.0.1:4001"]] * 3
    with pytest.raises(NoSuchID):
        go(b.directory.look_up(unused))
    assert [event.id for each in daemons for event in each.events] == [unused]


def test_a_daemon_forgets_no_id_of_another_owner(clock: Clock) -> None:
    network = DirectNetwork(clock)
    a = GossipDaemon(network, "a")
    b = GossipDaemon(network, "b", ["a"], unused_days=3 * MINUTES)
    settle(clock, 5)
    unused = create_id(a)
    settle(clock, 400)
    assert holds(a, unused)
    assert holds(b, unused)


def test_a_peer_that_was_away_forgets_an_id_when_it_is_back_and_revives_it_nowhere(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, _, c = daemons
    unused = create_id(a)
    settle(clock, 2)
    network.split("c")
    settle(clock, OVER)
    assert not holds(a, unused)
    assert holds(c, unused)
    network.heal()
    settle(clock, 130)
    assert not any(holds(each, unused) for each in daemons)


def test_a_peer_with_an_older_copy_gets_registrations_made_meanwhile(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    discovery_id, another = create_id(a), create_id(a)
    settle(clock, 100)
    assert holds(c, another)
    network.cut |= {("a", "c"), ("c", "a")}
    register(a, discovery_id, "10.0.0.1:4001")
    network.cut |= {("b", "c"), ("c", "b")}
    settle(clock, OVER)
    assert not holds(a, another)
    network.cut -= {("b", "c"), ("c", "b")}
    settle(clock, 70)
    assert not holds(c, another)
    assert listed(c, discovery_id) == listed(b, discovery_id) == ["10.0.0.1:4001"]


def test_an_owner_on_an_older_disk_learns_what_it_forgot(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    unused = create_id(a)
    settle(clock, 2)
    before = older(a.disk)
    settle(clock, OVER)
    assert not holds(a, unused)
    network.split("a")
    a = a.restart(before)
    settle(clock, 70)
    assert holds(a, unused)
    network.heal()
    settle(clock, 130)
    assert not any(holds(each, unused) for each in (a, b, c))


def test_an_id_created_by_an_owner_on_an_older_disk_before_it_learns_that_is_not_forgotten(
    clock: Clock, three: Three
) -> None:
    network, daemons = three
    a, b, c = daemons
    create_id(a)
    settle(clock, 2)
    before = older(a.disk)
    settle(clock, OVER)
    network.split("a")
    network.set_by = -DAY
    a = a.restart(before)
    younger = create_id(a)
    network.heal()
    settle(clock, 100)
    assert all(holds(each, younger) for each in (a, b, c))
    again = a.restart()
    assert holds(again, younger)


def test_an_owner_that_forgot_its_newest_id_restarts_as_itself(clock: Clock, three: Three) -> None:
    network, daemons = three
    a = daemons[0]
    create_id(a)
    settle(clock, OVER)
    assert a.store.count_all() == 0
    network.messages.clear()
    a = a.restart()
    settle(clock, 5)
    assert a.backend.may_expire()
    assert "pull" not in {verb for sender, _, verb, _ in network.messages if sender == "a"}, (
        "it assumes that it is older"
    )


def test_an_owner_that_learned_what_it_forgot_creates_younger_ids_even_with_its_clock_set_back(
    clock: Clock, three: Three
) -> None:
    network, daemons = three
    a, b, c = daemons
    before = older(a.disk)
    create_id(a)
    settle(clock, OVER)
    a = a.restart(before)
    settle(clock, 5)
    network.set_by = -DAY
    a = a.restart()
    settle(clock, 5)
    younger = create_id(a)
    settle(clock, 70)
    assert all(holds(each, younger) for each in (a, b, c))
    assert holds(a.restart(), younger)


def test_a_peer_forgets_records_that_reached_its_disk_while_it_was_forgetting(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    c = c.restart(unused_days=None)
    network.split("c")
    unused = create_id(a)
    line = a.store.line(unused.encode())
    assert line is not None
    settle(clock, OVER)
    c.threads.hold = True
    network.heal()
    while not c.threads.held:
        settle(clock, 0.1)
    # The watermark is being written; the records of an older message go with the next batch.
    a.greet(c)
    taking = a.send(c, "push", Page(delta=delta_of(a.owner, line)))
    c.threads.release()
    assert c.backend.watermarks.of(a.owner)
    settle(clock, 65)
    c.threads.hold = False
    c.threads.release_all()
    result(taking)
    settle(clock, 65)
    assert not any(holds(each, unused) for each in (a, b, c))


def delta_of(owner: str, line: bytes) -> Delta:
    """Return a delta with one record."""
    return Delta(owner=owner, after=0, upto=0, records=[msgspec.Raw(line)])


def test_the_last_daemon_forgets_unused_ids_although_it_started_without_the_one_that_was_lost(clock: Clock) -> None:
    _, (a, b) = trio(clock, "ab", unused_days=3 * MINUTES)
    b.stop()
    settle(clock, 3)
    a = a.restart()
    settle(clock, 3)
    unused = create_id(a)
    assert wait(clock, a.forget("b")) == 0
    a = a.restart()
    settle(clock, OVER)
    assert not holds(a, unused)
    # Nothing is left to be done, at the next start either.
    timers = list(a.state.timers)
    settle(clock, 10)
    assert a.state.timers == timers
