"""What a home forgets because it never had a node is forgotten by all its peers, and by nobody
else's decision.
"""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.transport.messages import Delta
from rqdisco.core.errors import NoSuchID
from tests.support.daemon import DAY, result
from tests.support.gossip import DirectNetwork, PeeredDaemon, Three, go, listed, mint, older, register, settle, trio

MINUTES = 60 / DAY
# The home looks each minute, and so do its peers once they were told.
OVER = 320


@pytest.fixture
def three(clock: Clock) -> Three:
    """Daemons that forget after three minutes, and look each minute."""
    return trio(clock, unused_days=3 * MINUTES)


def knows(daemon: PeeredDaemon, discovery_id: str) -> bool:
    return daemon.store.settled(discovery_id) is not None


def test_what_its_home_forgets_is_gone_everywhere(clock: Clock, three: Three) -> None:
    _, daemons = three
    a, b, _ = daemons
    unused, used = mint(a), mint(a)
    register(a, used, "10.0.0.1:4001")
    settle(clock, 180)
    assert all(knows(each, unused) for each in daemons)
    settle(clock, OVER - 180)
    assert not any(knows(each, unused) for each in daemons)
    assert [listed(each, used) for each in daemons] == [["10.0.0.1:4001"]] * 3
    with pytest.raises(NoSuchID):
        go(b.directory.look_up(unused))
    assert [event.id for each in daemons for event in each.events] == [unused]


def test_nobody_forgets_what_another_daemon_is_the_home_of(clock: Clock) -> None:
    network = DirectNetwork(clock)
    a = PeeredDaemon(network, "a")
    b = PeeredDaemon(network, "b", ["a"], unused_days=3 * MINUTES)
    settle(clock, 5)
    unused = mint(a)
    settle(clock, 400)
    assert knows(a, unused)
    assert knows(b, unused)


def test_a_peer_that_was_away_forgets_it_when_it_is_back_and_brings_it_back_to_nobody(
    clock: Clock, three: Three
) -> None:
    network, daemons = three
    a, _, c = daemons
    unused = mint(a)
    settle(clock, 2)
    network.split("c")
    settle(clock, OVER)
    assert not knows(a, unused)
    assert knows(c, unused)
    network.heal()
    settle(clock, 130)
    assert not any(knows(each, unused) for each in daemons)


def test_a_peer_with_an_older_copy_gets_what_was_registered_meanwhile(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    discovery_id, another = mint(a), mint(a)
    settle(clock, 100)
    assert knows(c, another)
    network.cut |= {("a", "c"), ("c", "a")}
    register(a, discovery_id, "10.0.0.1:4001")
    network.cut |= {("b", "c"), ("c", "b")}
    settle(clock, OVER)
    assert not knows(a, another)
    network.cut -= {("b", "c"), ("c", "b")}
    settle(clock, 70)
    assert not knows(c, another)
    assert listed(c, discovery_id) == listed(b, discovery_id) == ["10.0.0.1:4001"]


def test_a_home_on_an_older_disk_learns_what_it_forgot(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    unused = mint(a)
    settle(clock, 2)
    before = older(a.disk)
    settle(clock, OVER)
    assert not knows(a, unused)
    network.split("a")
    a = a.restart(before)
    settle(clock, 70)
    assert knows(a, unused)
    network.heal()
    settle(clock, 130)
    assert not any(knows(each, unused) for each in (a, b, c))


def test_what_a_home_on_an_older_disk_mints_before_it_hears_that_is_not_taken_for_forgotten(
    clock: Clock, three: Three
) -> None:
    network, daemons = three
    a, b, c = daemons
    mint(a)
    settle(clock, 2)
    before = older(a.disk)
    settle(clock, OVER)
    network.split("a")
    network.set_by = -DAY
    a = a.restart(before)
    younger = mint(a)
    network.heal()
    settle(clock, 100)
    assert all(knows(each, younger) for each in (a, b, c))
    again = a.restart()
    assert knows(again, younger)


def test_a_home_that_forgot_its_newest_id_starts_as_what_it_was(clock: Clock, three: Three) -> None:
    network, daemons = three
    a = daemons[0]
    mint(a)
    settle(clock, OVER)
    assert a.store.count_all() == 0
    network.messages.clear()
    a = a.restart()
    settle(clock, 5)
    assert a.backend.may_expire()
    assert "pull" not in {verb for sender, _, verb, _ in network.messages if sender == "a"}, "it takes itself for older"


def test_a_home_that_was_told_what_it_forgot_makes_younger_ids_though_it_starts_with_its_clock_set_back(
    clock: Clock, three: Three
) -> None:
    network, daemons = three
    a, b, c = daemons
    before = older(a.disk)
    mint(a)
    settle(clock, OVER)
    a = a.restart(before)
    settle(clock, 5)
    network.set_by = -DAY
    a = a.restart()
    settle(clock, 5)
    younger = mint(a)
    settle(clock, 70)
    assert all(knows(each, younger) for each in (a, b, c))
    assert knows(a.restart(), younger)


def test_a_peer_forgets_what_came_to_its_disk_while_it_was_forgetting(clock: Clock, three: Three) -> None:
    network, daemons = three
    a, b, c = daemons
    c = c.restart(unused_days=None)
    network.split("c")
    unused = mint(a)
    line = a.store.line(unused.encode())
    assert line is not None
    settle(clock, OVER)
    c.threads.hold = True
    network.heal()
    while not c.threads.held:
        settle(clock, 0.1)
    # The mark is being written; what an older message tells goes with the next batch.
    taking = Deferred.fromCoroutine(c.backend.peers.exchange.apply_delta(delta_of(a.owner, line)))
    c.threads.release()
    assert c.backend.watermarks.of(a.owner)
    settle(clock, 65)
    c.threads.hold = False
    c.threads.release_all()
    result(taking)
    settle(clock, 65)
    assert not any(knows(each, unused) for each in (a, b, c))


def delta_of(owner: str, line: bytes) -> Delta:
    """What tells of one record."""
    return Delta(owner=owner, after=0, upto=0, records=[msgspec.Raw(line)])
