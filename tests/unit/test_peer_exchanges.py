"""Daemons exchange their digests in time: each second, and sooner where somebody lacks something."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.contacts import MIN_SECONDS
from rqdisco.core.errors import NoSuccessor, Undecided
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import DirectNetwork, GossipDaemon, Three, create_id, settle


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Pair:
    """Two daemons that know each other, on a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.network = DirectNetwork(clock)
        self.a = GossipDaemon(self.network, "a", ["b"])
        self.b = GossipDaemon(self.network, "b", ["a"])
        settle(clock, 5)

    def times(self, sender: str, verb: str, seconds: float) -> list[float]:
        """Return when a daemon sends messages of a verb, from now on."""
        began, found = self.clock.seconds(), []
        while self.clock.seconds() < began + seconds:
            before = len(self.network.messages)
            self.clock.advance(0.01)
            new = self.network.messages[before:]
            found += [self.clock.seconds() - began for each in new if (each[0], each[2]) == (sender, verb)]
        return found


@pytest.fixture
def pair(clock: Clock) -> Pair:
    return Pair(clock)


def test_daemons_at_rest_exchange_about_once_a_second(pair: Pair) -> None:
    both = sorted(pair.times("a", "digest", 30) + pair.times("b", "digest", 30))
    # A daemon leaves out its own exchange where the other has just begun one.
    assert 25 <= len(both) <= 70
    of_a = pair.times("a", "digest", 30)
    assert all(later - earlier > 0.85 for earlier, later in pairwise(of_a))


def test_a_daemon_that_lacks_a_change_fetches_it_right_after_the_digest_that_shows_it(pair: Pair) -> None:
    pair.network.dropped.add(("a", "push"))
    creating = Deferred.fromCoroutine(pair.a.directory.create())
    shown_at = 0.0
    while not any(verb == "pull" for _, _, verb, _ in pair.network.messages):
        before = len(pair.network.messages)
        pair.clock.advance(0.01)
        if any(each[:3] == ("a", "b", "digest") for each in pair.network.messages[before:]):
            shown_at = pair.clock.seconds()
    assert pair.clock.seconds() - shown_at <= MIN_SECONDS + 0.02
    settle(pair.clock, 2)
    assert list(pair.b.store.ids()) == [result(creating).id]


def test_exchanges_are_never_closer_than_a_tenth_of_a_second(pair: Pair) -> None:
    pair.network.dropped.add(("a", "push"))
    creating = [Deferred.fromCoroutine(pair.a.directory.create()) for _ in range(20)]
    of_b = pair.times("b", "digest", 10)
    assert all(later - earlier >= MIN_SECONDS - 0.011 for earlier, later in pairwise(of_b))
    assert len([result(each) for each in creating]) == len(pair.b.store)


def test_a_drain_and_a_forwarded_request_are_answered_if_an_internal_error_ends_their_round(
    three: Three, clock: Clock, logged_errors: list[dict[str, Any]]
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(b)
    settle(clock, 2)
    network.swallowed.add(("c", "digest"))
    c = c.restart()
    # Between its first round with b, which has failed, and the next one.
    settle(clock, 2.1)
    network.swallowed.add(("a", "digest"))
    drained = Deferred.fromCoroutine(a.drain("b"))
    registered = Deferred.fromCoroutine(c.directory.register(discovery_id, Node(addr="n1:1"), None))
    no_command: Any = object()
    for daemon in (a, c):
        with pytest.raises(AttributeError):
            result(daemon.backend.driver.request(no_command))
    clock.advance(0)
    with pytest.raises(NoSuccessor, match="b cannot take over yet, try again: internal error"):
        result(drained)
    with pytest.raises(Undecided, match="the owner of this ID does not answer"):
        result(registered)
    assert len(logged_errors) == 2
    logged_errors.clear()
