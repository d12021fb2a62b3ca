"""Among peers, too, a claim without its leader's report is visible to its claimant alone (R5c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.core.errors import NotReady, Ownerless, Undecided, UnknownCreatedID
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from tests.support.gossip import DirectNetwork, GossipDaemon, Three, create_id, go, older, settle, wait
from tests.unit.test_hidden_claims import HOST_A, HOST_B, A, B, assert_hidden, assert_led, claim, look_up, report


def test_no_copy_shows_a_claim_and_the_claimant_wins_again_at_any_daemon(three: Three, clock: Clock) -> None:
    _, daemons = three
    a, b, c = daemons
    discovery_id = create_id(a)
    assert claim(b, discovery_id, A).won
    settle(clock, 2)
    for daemon in daemons:
        assert_hidden(look_up(daemon, discovery_id))
        assert_hidden(wait(clock, daemon.directory.look_up_at_owner(discovery_id)))
    for daemon in daemons:
        assert not claim(daemon, discovery_id, B, HOST_B).won
        assert claim(daemon, discovery_id, A).again
        with pytest.raises(Undecided, match="a claim awaits its owner's first report"):
            go(daemon.directory.register(discovery_id, Node(addr="n:1"), None))
    assert report(c, discovery_id, A)
    settle(clock, 2)
    for daemon in daemons:
        assert_led(look_up(daemon, discovery_id), "a:4001")


def test_two_hosts_of_one_name_are_distinguished_also_at_different_daemons(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    assert claim(b, discovery_id, A, THIS_MACHINE).won
    assert claim(b, discovery_id, A, THIS_MACHINE).again
    for daemon in (a, c):
        assert not claim(daemon, discovery_id, A, THIS_MACHINE).won
    settle(clock, 30)
    assert claim(c, discovery_id, A, THIS_MACHINE).again
    assert not claim(b, discovery_id, A, THIS_MACHINE).won


def test_nobody_wins_while_the_owner_of_an_id_is_unreachable(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    settle(clock, 2)
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided, match="does not answer"):
        wait(clock, b.directory.claim(discovery_id, A, HOST_A))
    with pytest.raises(Undecided):
        wait(clock, b.directory.register(discovery_id, Node(addr="n:1"), None))
    assert_hidden(look_up(b, discovery_id))
    assert claim(a, discovery_id, A).again


def test_a_restarted_daemon_lets_nobody_win_again_before_it_reached_all_others(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    network.split("a")
    a = a.restart()
    with pytest.raises(NotReady):
        claim(a, discovery_id, A)
    network.heal()
    settle(clock, 12)
    assert claim(a, discovery_id, A).again


def test_a_daemon_on_an_older_disk_learns_the_claimant_from_its_peers(three: Three, clock: Clock) -> None:
    _, (a, _, _) = three
    discovery_id = create_id(a)
    before = older(a.disk)
    claim(a, discovery_id, A)
    settle(clock, 2)
    a = a.restart(before)
    settle(clock, 12)
    assert_hidden(look_up(a, discovery_id))
    assert not claim(a, discovery_id, B, HOST_B).won
    assert claim(a, discovery_id, A).again


def test_a_fenced_daemon_lets_nobody_win_again(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    _, (a, b, _) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    duplicate = GossipDaemon(a.network, "d", ["b"], seed=9, called="a")
    settle(clock, 6)
    for at in (a, b):
        with pytest.raises(Undecided, match="two daemons are called a"):
            claim(at, discovery_id, A)
    duplicate.stop()
    logged_errors.clear()


def test_nobody_wins_again_under_an_ownerless_id_but_its_leader_may_report(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    settle(clock, 2)
    a.stop()
    settle(clock, 3)
    assert wait(clock, b.forget("a")) == 1
    settle(clock, 3)
    for at in (b, c):
        assert_hidden(look_up(at, discovery_id))
        with pytest.raises(Ownerless):
            claim(at, discovery_id, A)
        assert not claim(at, discovery_id, B, HOST_B).won
    assert report(c, discovery_id, A)
    settle(clock, 2)
    for at in (b, c):
        assert_led(look_up(at, discovery_id), "a:4001")


def test_a_successor_lets_the_claimant_win_again_and_another_host_after_30_seconds(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 60)
    claim(a, discovery_id, A)
    settle(clock, 2)
    assert wait(clock, a.drain("b")) == "b"
    settle(clock, 3)
    assert_hidden(look_up(c, discovery_id))
    assert not claim(b, discovery_id, A, HOST_B).won
    settle(clock, 30)
    assert claim(c, discovery_id, A, HOST_B).again
    assert not claim(b, discovery_id, B, HOST_B).won


def test_a_claim_that_no_daemon_holds_any_more_does_not_recreate_the_id(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = "ffff306d-5842-851c-a00f-72fe57b0eb16"
    for at in (a, b):
        with pytest.raises(UnknownCreatedID):
            wait(clock, at.directory.claim(discovery_id, A, HOST_A))


def test_the_next_claim_after_a_clearing_asks_all_peers_and_wins(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    settle(clock, 2)
    assert wait(clock, b.directory.clear_leader(discovery_id)).removed == "claim"
    network.split("c")
    with pytest.raises(Undecided):
        wait(clock, b.directory.claim(discovery_id, B, HOST_B))
    network.heal()
    settle(clock, 5)
    assert wait(clock, b.directory.claim(discovery_id, B, HOST_B)).won


@pytest.fixture
def mixed(clock: Clock) -> Iterator[Three]:
    """Return a daemon of this release and an older one that have met."""
    network = DirectNetwork(clock)
    network.before_hidden_claims.add("b")
    daemons = [GossipDaemon(network, "a"), GossipDaemon(network, "b", ["a"])]
    settle(clock, 5)
    yield network, daemons
    for daemon in network.daemons.values():
        daemon.stop()
    settle(clock, 1)


def test_a_claim_beside_a_peer_that_would_show_it_is_visible_and_wins_only_once(mixed: Three, clock: Clock) -> None:
    _, (a, b) = mixed
    discovery_id = create_id(a)
    assert claim(a, discovery_id, A).won
    settle(clock, 2)
    for at in (a, b):
        assert look_up(at, discovery_id).leader is not None
        assert not claim(at, discovery_id, A).won


def test_claims_are_hidden_once_the_last_older_peer_runs_this_release(mixed: Three, clock: Clock) -> None:
    network, (a, b) = mixed
    before, after = create_id(a), create_id(a)
    claim(a, before, A)
    network.before_hidden_claims.clear()
    b = b.restart()
    settle(clock, 12)
    assert claim(a, after, A).won
    settle(clock, 2)
    for at in (a, b):
        assert_hidden(look_up(at, after))
        assert look_up(at, before).leader is not None
        assert not claim(at, before, A).won


def test_a_hidden_claim_does_not_win_again_while_a_peer_runs_an_older_release(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(a)
    claim(a, discovery_id, A)
    network.before_hidden_claims.add("b")
    b = b.restart()
    settle(clock, 12)
    assert not claim(a, discovery_id, A).won
    assert_hidden(look_up(a, discovery_id))
    network.before_hidden_claims.clear()
    b.restart()
    settle(clock, 12)
    assert claim(a, discovery_id, A).again


def test_a_peer_not_met_since_the_start_makes_no_claim_visible(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    b.stop()
    a = a.restart()
    settle(clock, 3)
    discovery_id = create_id(a)
    assert claim(a, discovery_id, A).won
    assert_hidden(look_up(a, discovery_id))
    assert claim(a, discovery_id, A).again, "what it knew was kept"
    b = b.restart()
    settle(clock, 12)
    for at in (a, b):
        assert_hidden(look_up(at, discovery_id), times=2)
    assert claim(a, discovery_id, A).again


def test_a_peer_known_only_from_others_makes_no_claim_visible(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = create_id(a)
    network.cut |= {("a", "d"), ("d", "a")}
    d = GossipDaemon(network, "d", ["b"])
    settle(clock, 3)
    assert claim(a, discovery_id, A).won
    network.heal()
    settle(clock, 12)
    for at in (a, d):
        assert_hidden(look_up(at, discovery_id))
    assert claim(d, discovery_id, A).again
