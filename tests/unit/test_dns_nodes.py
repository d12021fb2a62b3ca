"""The double of rqlite 7-10 with DNS modes behaves as rqlite, and Go's resolver, are known to."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from operator import attrgetter
from typing import Any, Literal

import pytest

from tests.support import dns_nodes
from tests.support.dns_nodes import DNSNode, GoResolver, LookUpFailed
from tests.support.scripted import NameServer
from tests.support.virtual import BOTH_ENDPOINTS, Peer, Service, VirtualNetwork, World, leader_of


def outcome(world: World, begin: Callable[[], Coroutine[Any, Any, list[Any]]]) -> list[Any] | str:
    """Return the result of a lookup in a fixed order, or its error."""
    try:
        return sorted(world.result(begin))
    except LookUpFailed as error:
        return str(error)


BOTH = ["10.0.0.0", "10.0.0.1"]
NO_HOST, MISBEHAVING = "no such host", "server misbehaving"


@pytest.mark.parametrize(
    ("manner", "expected", "seconds", "queries"),
    [
        ("good", BOTH, 0, 2),
        ("shouting", BOTH, 0, 2),
        ("forged", BOTH, 0, 2),
        ("half", BOTH, 0, 2),
        ("silent", "i/o timeout", 10, 4),
        ("confused", "i/o timeout", 10, 4),
        ("gone", NO_HOST, 0, 2),
        ("empty", NO_HOST, 0, 2),
        ("recursive", NO_HOST, 0, 2),
        ("lame", "lame referral", 0, 4),
        ("failing", MISBEHAVING, 0, 4),
        ("refusing", MISBEHAVING, 0, 4),
        ("recovering", BOTH, 0, 4),
        ("curt", ["10.0.0.0"], 0, 4),
        ("mute", "EOF", 0, 8),
        ("mistaken", "invalid DNS response", 0, 8),
    ],
)
def test_addresses_are_resolved_like_go(manner: str, expected: list[str] | str, seconds: float, queries: int) -> None:
    server, world = NameServer(), World(1)
    with server.serve() as service:
        assert outcome(world, lambda: GoResolver(world, service).addresses(f"{manner}.example.")) == expected
    assert (world.now, len(server.asked)) == (seconds, queries)


@pytest.mark.parametrize(
    ("manner", "expected"),
    [
        ("good", [("n0.good.example.", 0), ("n1.good.example.", 1)]),
        ("gone", NO_HOST),
        ("empty", NO_HOST),
        ("huge", "cannot unmarshal DNS message"),
        ("numeric", "DNS response contained records which contain invalid names"),
    ],
)
def test_services_are_resolved_like_go(manner: str, expected: list[tuple[str, int]] | str) -> None:
    server, world = NameServer(), World(1)
    with server.serve() as service:
        assert outcome(world, lambda: GoResolver(world, service).services("rqlite", f"{manner}.example")) == expected


class Rounds:
    """A world with a network, a name server, and nodes at 10.0.0.0, 10.0.0.1 and so on."""

    def __init__(self, service: Service) -> None:
        self.world = World(1)
        self.network = VirtualNetwork(self.world)
        self.service = service

    def peer(self, number: int, expect: int = 2) -> Peer:
        return Peer(f"n{number}", f"10.0.0.{number}:4001", f"10.0.0.{number}:4002", BOTH_ENDPOINTS, expect=expect)

    def node(
        self,
        name: str,
        peer: Peer,
        manner: str = "good",
        mode: Literal["dns", "dns-srv"] = "dns",
        prepare: Callable[[], None] = lambda: None,
    ) -> DNSNode:
        (release,) = (release for release in dns_nodes.RELEASES if release.name == name)
        name = f"{manner}.example."
        return DNSNode(release, peer, mode, name, self.service, self.world, self.network, prepare)


@pytest.fixture
def server() -> NameServer:
    return NameServer()


@pytest.fixture
def rounds(server: NameServer) -> Iterator[Rounds]:
    with server.serve() as service:
        yield Rounds(service)


@pytest.mark.parametrize("release", dns_nodes.RELEASES, ids=attrgetter("name"))
def test_nodes_look_up_each_others_http_or_raft_addresses(
    server: NameServer, rounds: Rounds, release: dns_nodes.DNSRelease
) -> None:
    node = rounds.node(release.name, rounds.peer(0))
    port = 4001 if release.name.startswith("7") else 4002
    assert sorted(rounds.world.result(node.look_up)) == [f"10.0.0.0:{port}", f"10.0.0.1:{port}"]
    node = rounds.node(release.name, rounds.peer(0), mode="dns-srv")
    found = rounds.world.result(node.look_up)
    assert sorted(found) == ["10.0.0.0:0", "10.0.0.0:1", "10.0.0.1:0", "10.0.0.1:1"]
    kind = b"rqlite-http" if release.name.startswith("7") else b"rqlite-raft"
    assert any(b"_%b\x04_tcp" % kind in question for _, question in server.asked)
    ends = {content[-11:] for _, content in server.asked}
    option = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    assert (ends == {option}) == (release.name not in ("7.2", "7.10")), (
        "queries carry the size of an answer from Go 1.19 on"
    )
    wants = [rounds.world.result(node.look_up) == sorted(found) for _ in range(20)]
    assert all(wants) == (release.name in ("8.39", "10.2")), "before v8.36.11 in any order"


def test_old_releases_write_ipv6_addresses_that_cannot_be_joined(rounds: Rounds) -> None:
    for name, expected in (("8.0", "fd00::1:4002"), ("8.39", "[fd00::1]:4002")):
        node = rounds.node(name, rounds.peer(0), "six")
        assert expected in rounds.world.result(node.look_up)


def test_one_target_without_an_address_fails_the_whole_lookup(rounds: Rounds) -> None:
    node = rounds.node("10.2", rounds.peer(0), "partial", "dns-srv")
    assert outcome(rounds.world, node.look_up) == NO_HOST


@pytest.mark.parametrize(
    ("name", "fewest", "most", "seconds"),
    [("7.2", 3, 13, 60), ("7.10", 30, 61, 120), ("8.0", 30, 61, 120), ("10.2", 60, 121, 120)],
)
def test_a_node_looks_up_repeatedly_until_its_time_is_up_and_is_restarted(
    server: NameServer, rounds: Rounds, name: str, fewest: int, most: int, seconds: int
) -> None:
    starts: list[float] = []
    node = rounds.node(name, rounds.peer(0), "gone", prepare=lambda: starts.append(rounds.world.now))
    node.start()
    rounds.world.run(seconds - 0.01)
    assert fewest <= len(server.asked) / 2 <= most
    assert (node.peer.is_up, node.exits) == (True, 0)
    rounds.world.run(0.02)
    assert (node.peer.is_up, node.exits) == (False, 1)
    assert node.log == [f"provider lookup failed {NO_HOST}"] * (len(server.asked) // 2) + ["boot timeout"]
    rounds.world.run(5)
    assert node.peer.is_up
    assert starts == [0, seconds + dns_nodes.RESTART_SECONDS]


def test_a_node_that_cannot_be_prepared_is_retried(rounds: Rounds) -> None:
    failures: list[OSError] = [ConnectionRefusedError(), ConnectionResetError()]

    def prepare() -> None:
        if failures:
            raise failures.pop()

    node = rounds.node("10.2", rounds.peer(0), prepare=prepare)
    node.start()
    rounds.world.run(9)
    assert (node.peer.is_up, node.exits) == (False, 2)
    rounds.world.run(2)
    assert (node.peer.is_up, node.exits) == (True, 2)


def test_nodes_that_find_each_other_bootstrap_together_and_others_join_them(rounds: Rounds) -> None:
    peers = [rounds.peer(number) for number in range(3)]
    first, second, third = (rounds.node("10.2", peer) for peer in peers)
    first.start()
    assert not rounds.world.run(60, rounds.network.is_formed)
    second.start()
    assert rounds.world.run(20, rounds.network.is_formed)
    third.start()
    assert rounds.world.run(20, rounds.network.is_formed)
    (members,) = rounds.network.clusters.values()
    assert members == ["n0", "n1", "n2"]
    assert [cluster.members for cluster in rounds.network.bootstrapped] == [peers]


@pytest.mark.parametrize(("own", "bootstraps"), [(0, True), (1, False)])
def test_a_dead_address_keeps_those_after_it_from_being_notified(rounds: Rounds, own: int, bootstraps: bool) -> None:
    node = rounds.node("10.2", rounds.peer(own, expect=1))
    node.start()
    assert rounds.world.run(119, rounds.network.is_formed) == bootstraps


def test_a_node_without_a_vote_notifies_nobody(rounds: Rounds) -> None:
    voter = rounds.peer(1, expect=1)
    rounds.network.add(voter)
    rounds.network.switch(voter, on=True)
    node = rounds.node("10.2", rounds.peer(0, expect=0))
    node.peer.votes = False
    node.start()
    rounds.world.run(119)
    assert node.log == []
    assert voter.notified_by == {}
    assert rounds.network.bootstrapped == []


@pytest.mark.parametrize("release", dns_nodes.RELEASES, ids=attrgetter("name"))
def test_a_node_without_a_vote_that_expects_others_does_not_start(
    server: NameServer, rounds: Rounds, release: dns_nodes.DNSRelease
) -> None:
    node = rounds.node(release.name, rounds.peer(0, expect=1))
    node.peer.votes = False
    node.start()
    rounds.world.run(12)
    assert node.log == ["bootstrapping only applicable to voting nodes"] * 3
    assert server.asked == []


@pytest.mark.parametrize(("name", "asks"), [("7.2", False), ("7.10", False), ("7.21", True), ("10.2", True)])
def test_a_restarted_member_looks_up_the_others_from_7_18_2_on(
    server: NameServer, rounds: Rounds, name: str, asks: bool
) -> None:
    """It waits for the resolver where nobody answers; it continues to serve in the meantime."""
    peers = [rounds.peer(number) for number in range(3)]
    for peer in peers[1:]:
        rounds.network.add(peer)
        rounds.network.switch(peer, on=True)
    node = rounds.node(name, peers[0], "silent")
    rounds.network.bootstrap(peers)
    rounds.world.run(5)
    node.start()
    rounds.world.run(9.9)
    assert len(server.asked) == (4 if asks else 0)
    assert node.log == []
    assert leader_of(node.peer) is not None
    rounds.world.run(200)
    assert len(server.asked) == (4 if asks else 0)
    assert node.log == ["provider lookup failed i/o timeout"] * asks
    assert (node.peer.is_up, node.exits) == (True, 0)


@pytest.mark.parametrize("release", dns_nodes.RELEASES[2:], ids=attrgetter("name"))
def test_a_cluster_forms_in_the_time_that_real_ones_take(
    server: NameServer, rounds: Rounds, release: dns_nodes.DNSRelease
) -> None:
    nodes = [rounds.node(release.name, rounds.peer(number)) for number in range(2)]
    for node in nodes:
        node.start()
    assert not rounds.world.run(1, rounds.network.is_formed)
    assert rounds.world.run(4, rounds.network.is_formed)


@pytest.mark.parametrize(("name", "notifies"), [("7.2", False), ("7.10", False), ("7.21", True), ("10.2", True)])
def test_releases_up_to_7_10_notify_when_all_are_listed_and_only_once(
    rounds: Rounds, name: str, notifies: bool
) -> None:
    waiting, other = rounds.node(name, rounds.peer(0, expect=3)), rounds.peer(1, expect=3)
    rounds.network.add(other)
    rounds.network.switch(other, on=True)
    waiting.start()
    rounds.world.run(50)
    assert bool(other.notified_by) == notifies, "two of three are listed"
    waiting.kill()
    waiting.peer.expect = 2
    waiting.start()
    rounds.world.run(25)
    assert list(other.notified_by) == ["n0"]
    for on in (False, True):
        rounds.network.switch(other, on=on)
    rounds.world.run(30)
    assert bool(other.notified_by) == notifies
