"""Which nodes are probed, what comes of it, and that nobody can have the daemon connect to where it must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.probing.judgement import FAILURES, Outcome, Standing, judged, pauses, told
from rqdisco.probing.knock import MOST_BYTES, SECONDS, Knocker
from rqdisco.probing.rounds import AT_ONCE
from rqdisco.probing.targets import Allowed, Target, network, target_of
from rqdisco.records import Node
from tests.support.daemon import Daemon, Probe, mint, register, result
from tests.support.network import NOT_READY, READY, Network

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
INTERVAL = 10.0


def after(*outcomes: Outcome) -> Standing:
    """What is held of a node after a probe each second met these."""
    standing = None
    for at, outcome in enumerate(outcomes, 1):
        standing = judged(standing, outcome, float(at))
    assert standing is not None
    return standing


@pytest.mark.parametrize("outcome", ["ready", "not_ready", "answered", "connected"])
def test_one_answer_of_any_kind_is_enough_to_be_up(outcome: Outcome) -> None:
    assert after(outcome).is_up
    assert after("refused", "refused", "refused", outcome).is_up


@pytest.mark.parametrize("outcome", ["refused", "unreachable", "no_answer", "closed", "unresolved"])
def test_three_failures_in_a_row_are_down_since_the_first(outcome: Outcome) -> None:
    assert after(outcome, outcome).is_up is None
    assert after("ready", outcome, outcome).is_up is True
    down = after("ready", outcome, outcome, outcome)
    assert (down.is_up, down.since, down.checked) == (False, 2.0, 4.0)
    assert after("ready", outcome, outcome, "ready", outcome, outcome).is_up is True


def test_it_is_up_since_it_came_back_and_not_since_the_last_probe() -> None:
    assert after("refused", "ready", "not_ready", "refused", "ready").since == 2.0
    assert after("refused", "refused", "refused", "ready", "ready").since == 4.0


@given(st.lists(st.sampled_from(["ready", "refused", "closed"]), min_size=1))
def test_down_is_nothing_but_the_last_three_probes_having_failed(outcomes: list[Outcome]) -> None:
    standing = after(*outcomes)
    is_down = len(outcomes) >= FAILURES and "ready" not in outcomes[-FAILURES:]
    assert (standing.is_up is False) == is_down
    assert (standing.is_up is None) == ("ready" not in outcomes and not is_down)
    assert standing.since <= standing.checked == len(outcomes)


def test_the_longer_a_node_is_down_the_less_often_it_is_probed_but_at_least_every_tenth_time() -> None:
    assert [pauses(after(*["refused"] * count)) for count in range(1, 9)] == [1, 1, 1, 2, 4, 8, 10, 10]
    assert pauses(after("refused", "refused", "refused", "refused", "ready")) == 1


def test_what_is_told_is_in_seconds_ago_and_nothing_before_anything_is_known() -> None:
    assert told(after("refused", "refused"), 9.0) is None
    seen = told(after("ready", "refused", "refused", "refused"), 10.25)
    assert seen is not None
    assert (seen.up, seen.since, seen.checked, seen.ready, seen.why) == (False, 8.2, 6.2, None, "refused")
    seen = told(after("ready", "not_ready"), 3.0)
    assert seen is not None
    assert (seen.up, seen.since, seen.checked, seen.ready, seen.why) == (True, 2.0, 1.0, False, None)


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        (Node(addr=A), f"http://{A}"),
        (Node(addr=A, raft_addr="10.0.0.1:4002"), f"http://{A}"),
        (Node(addr=f"http://{A}/"), f"http://{A}"),
        (Node(addr=f"https://{A}"), f"https://{A}"),
        (Node(addr="[fd00::1]:4001"), "http://[fd00::1]:4001"),
        (Node(addr="[::ffff:10.0.0.1]:4001"), f"http://{A}"),
        (Node(addr="Node1.example.org.:4001"), "http://node1.example.org:4001"),
        (Node(addr="10.0.0.1:4002", raft_addr="10.0.0.1:4002"), "tcp://10.0.0.1:4002"),
        (Node(addr="opaque", raft_addr="10.0.0.1:4002"), "tcp://10.0.0.1:4002"),
        (Node(addr="opaque"), None),
        (Node(addr="0.0.0.0:4001"), None),
        (Node(addr="224.0.0.1:4001"), None),
        (Node(addr="[fe80::1%eth0]:4001"), None),
        (Node(addr="2130706433:4001"), None),
        (Node(addr="0x7f.1:4001"), None),
        (Node(addr=f"http://user@{A}"), None),
        (Node(addr=f"http://{A}/path"), None),
    ],
)
def test_a_node_is_probed_at_its_http_address_else_at_its_raft_address(node: Node, shown: str | None) -> None:
    target = target_of(node)
    assert (None if target is None else str(target)) == shown


@pytest.mark.parametrize(
    ("ip", "by", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "::/0", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("::ffff:127.0.0.1", "0.0.0.0/0", False),
        ("::ffff:127.0.0.1", "::/0", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "0.0.0.0/0", False),
        ("127.0.0.1", "0.0.0.0/0", False),
        ("127.0.0.1", "126.0.0.0/7", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("169.254.169.254", "0.0.0.0/0", False),
        ("169.254.169.254", "169.0.0.0/8", False),
        ("169.254.169.254", "169.254.0.0/16", True),
        ("::1", "::/0", False),
        ("::1", "::1/128", True),
        ("fe80::1", "::/0", False),
        ("fe80::1", "fe80::/10", True),
        ("0.0.0.0", "0.0.0.0/0", False),
        ("::", "::/0", False),
        ("224.0.0.1", "0.0.0.0/0", False),
        ("255.255.255.255", "0.0.0.0/0", False),
    ],
)
def test_nothing_is_probed_but_what_is_allowed_and_no_special_address_that_is_not_meant(
    ip: str, by: str, allowed: bool
) -> None:
    assert Allowed([network(by)])(ip) is allowed
    assert Allowed([network("192.0.2.0/24"), network(by)])(ip) is allowed


@given(st.ip_addresses())
def test_without_networks_nothing_is_allowed_and_by_wide_ones_no_special_address(address: Any) -> None:
    assert not Allowed([])(str(address))
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if special:
        assert not Allowed(map(network, ("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1")))(str(address))


def test_an_ipv4_network_in_ipv6_is_not_taken_for_what_it_is_not() -> None:
    with pytest.raises(ValueError, match="clothes"):
        network("::ffff:10.0.0.0/104")


class Knocking:
    """Probes one node, and sees what comes of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self._knock = Knocker(self.network, self.clock)

    def __call__(self, addr: str = A, raft_addr: str | None = None) -> Deferred[Outcome]:
        target = target_of(Node(addr=addr, raft_addr=raft_addr))
        assert target is not None
        return Deferred.fromCoroutine(self._knock(target, target.host))

    def met(self, addr: str = A) -> Outcome:
        """What it met without waiting; every connection is let go of."""
        outcome: Outcome = result(self(addr))
        assert self.network.open == 0
        return outcome


@pytest.fixture
def knock() -> Knocking:
    return Knocking()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (READY, "ready"),
        (NOT_READY, "not_ready"),
        (b"HTTP/1.0 200 OK\n", "ready"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n404 page not found\n", "answered"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answered"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.2:4001/\r\n\r\n", "answered"),
        (b"HTTP/1.1 2000 OK\r\n", "answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answered"),
        (b"x" * 5000, "answered"),
    ],
)
def test_any_answer_is_one_and_readyz_says_whether_the_node_is_ready(
    knock: Knocking, answer: bytes, outcome: Outcome
) -> None:
    knock.network.listens("10.0.0.1", answer)
    assert knock.met() == outcome
    assert knock.network.tried == [("10.0.0.1", 4001)], "no redirect is followed"
    assert knock.network.asked == [
        b"GET /readyz HTTP/1.1\r\nHost: 10.0.0.1:4001\r\nUser-Agent: rqdisco\r\nConnection: close\r\n\r\n"
    ]


def test_who_refuses_hangs_up_or_cannot_be_reached_is_told_apart(knock: Knocking) -> None:
    assert knock.met() == "refused"
    knock.network.hangs_up("10.0.0.1")
    assert knock.met() == "closed"
    knock.network.is_cut_off("10.0.0.1")
    assert knock.met() == "unreachable"


@pytest.mark.parametrize("behaviour", ["takes no connection", "says nothing", "says half a line"])
def test_whoever_says_nothing_is_waited_for_two_seconds(knock: Knocking, behaviour: str) -> None:
    if behaviour == "takes no connection":
        knock.network.hangs("10.0.0.1")
    else:
        knock.network.listens("10.0.0.1", b"" if behaviour == "says nothing" else b"HTTP/1.1 200")
    knocking = knock()
    knock.clock.advance(SECONDS - 0.1)
    assert not knocking.called
    knock.clock.advance(0.1)
    assert result(knocking) == "no_answer"
    assert knock.network.open == 0


def test_no_more_than_some_kib_of_an_answer_are_looked_at(knock: Knocking) -> None:
    knock.network.listens("10.0.0.1", b"x" * (MOST_BYTES - 1))
    waiting = knock()
    assert not waiting.called
    waiting.cancel()
    waiting.addErrback(lambda _: None)
    assert knock.network.open == 0
    knock.network.listens("10.0.0.1", b"x" * MOST_BYTES)
    assert knock.met() == "answered"


def test_a_raft_address_is_connected_to_and_asked_nothing(knock: Knocking) -> None:
    knock.network.listens("10.0.0.1", port=4002)
    assert result(knock("10.0.0.1:4002", "10.0.0.1:4002")) == "connected"
    assert knock.network.asked == []
    assert knock.network.open == 0


class World:
    """A daemon that probes, on a clock, and the network that its nodes are in."""

    def __init__(self, rate: float = 100.0, interval: float = INTERVAL) -> None:
        self.probe = Probe(interval=interval, rate=rate)
        self.network = self.probe.network
        self.daemon = Daemon(probe=self.probe)
        self.clock = self.daemon.clock
        assert self.daemon.rounds is not None
        self.rounds = self.daemon.rounds

    def start(self, *addrs: str) -> str:
        """An ID with nodes at these addresses; begin to probe."""
        discovery_id = mint(self.daemon)
        for addr in addrs:
            register(self.daemon, discovery_id, addr)
        if not self.rounds.running:
            self.rounds.startService()
        return discovery_id

    def go_on(self, seconds: float) -> None:
        """Let time go by, in steps in which everything may happen that is due."""
        self.clock.pump([0.05] * round(seconds * 20))

    def up(self, addr: str) -> bool | None:
        """Whether a node is up."""
        seen = self.rounds.seen(Node(addr=addr))
        return None if seen is None else seen.up

    def tries(self, ip: str = "10.0.0.1") -> int:
        """How often it was connected to."""
        return sum(tried == ip for tried, _ in self.network.tried)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    result(world.rounds.stopService() if world.rounds.running else Deferred.fromCoroutine(_nothing()))
    assert world.network.open == 0
    assert world.clock.getDelayedCalls() == [] or all(
        call.getTime() >= world.clock.seconds() for call in world.clock.getDelayedCalls()
    )


async def _nothing() -> None:
    pass


def test_nodes_are_probed_as_they_come_and_go(world: World) -> None:
    world.network.listens("10.0.0.1")
    discovery_id = world.start(A, B)
    world.go_on(1)
    assert (world.up(A), world.up(B)) == (True, None)
    world.go_on(2.5 * INTERVAL)
    assert (world.up(A), world.up(B)) == (True, False)
    assert dict(+world.rounds.states) == {"up": 1, "down": 1}
    world.network.listens("10.0.0.3", NOT_READY)
    register(world.daemon, discovery_id, C)
    world.go_on(INTERVAL)
    assert world.up(C)
    assert dict(+world.rounds.states) == {"up": 1, "down": 1, "not_ready": 1}
    result(Deferred.fromCoroutine(world.daemon.directory.remove(discovery_id, B)))
    world.go_on(INTERVAL)
    assert world.up(B) is None
    assert dict(+world.rounds.states) == {"up": 1, "not_ready": 1}
    assert world.rounds.outcomes["refused"] == 4


def test_a_node_is_probed_once_in_an_interval_however_often_it_is_registered(world: World) -> None:
    world.network.listens("10.0.0.1")
    for _ in range(3):
        world.start(A)
    world.go_on(10 * INTERVAL + 5)
    assert 9 <= world.tries() <= 11


def test_a_node_that_stays_down_is_probed_ten_times_less_often(world: World) -> None:
    world.start(A)
    world.go_on(20 * INTERVAL)
    before = world.tries()
    world.go_on(100 * INTERVAL)
    assert 8 <= world.tries() - before <= 11


def test_a_node_that_comes_back_is_up_at_its_next_probe(world: World) -> None:
    world.start(A)
    world.go_on(3 * INTERVAL)
    assert world.up(A) is False
    world.network.listens("10.0.0.1")
    world.go_on(2 * INTERVAL)
    assert world.up(A) is True


def test_a_node_that_registers_again_is_taken_for_alive_and_probed_soon(world: World) -> None:
    world.start(A)
    world.go_on(30 * INTERVAL)
    assert world.up(A) is False
    world.network.listens("10.0.0.1", NOT_READY)
    world.rounds.heard(Node(addr=A))
    assert world.up(A) is None
    world.go_on(INTERVAL / 2)
    assert world.up(A) is True


def test_nobody_is_connected_to_who_is_not_in_the_networks(world: World) -> None:
    world.probe.names["here.example.org"] = ["10.0.0.7"]
    world.probe.names["there.example.org"] = ["192.0.2.7"]
    world.probe.names["both.example.org"] = ["10.0.0.8", "127.0.0.1"]
    world.probe.names["mapped.example.org"] = ["::ffff:127.0.0.1"]
    hosts = ("here", "there", "both", "mapped")
    world.start("192.0.2.1:4001", "127.0.0.1:22", "[::1]:22", *(f"{host}.example.org:4001" for host in hosts))
    world.go_on(5 * INTERVAL)
    assert set(world.network.tried) == {("10.0.0.7", 4001)}
    assert world.rounds.states["not_allowed"] == 6


def test_what_is_connected_to_is_the_address_that_was_allowed_whatever_the_name_says_next(world: World) -> None:
    answers = iter([["10.0.0.7"], ["127.0.0.1"]])

    class Rebinding(dict[str, list[str]]):
        def get(self, name: str, default: Any = None) -> Any:
            return next(answers, ["127.0.0.1"])

    world.probe.names = Rebinding()
    world.network.listens("10.0.0.7")
    world.start("evil.example.org:4001")
    world.go_on(1)
    assert world.up("evil.example.org:4001")
    world.go_on(20 * INTERVAL)
    assert set(world.network.tried) == {("10.0.0.7", 4001)}
    assert world.up("evil.example.org:4001") is None
    assert world.rounds.states["not_allowed"] == 1


def test_a_name_is_up_if_one_of_its_addresses_is_and_down_if_it_has_none(world: World) -> None:
    world.probe.names["n1.example.org"] = ["10.0.0.1", "10.0.0.2"]
    world.network.listens("10.0.0.2")
    world.start("n1.example.org:4001", "n2.example.org:4001")
    world.go_on(3 * INTERVAL)
    assert (world.up("n1.example.org:4001"), world.up("n2.example.org:4001")) == (True, False)
    assert world.rounds.outcomes["unresolved"] == 3


def test_many_nodes_are_probed_evenly_and_no_more_than_the_rate_in_any_second(world: World) -> None:
    addrs = [f"10.0.{number // 250}.{number % 250}:4001" for number in range(1, 401)]
    world.start(*addrs)
    counts = []
    for _ in range(5):
        before = len(world.network.tried)
        world.go_on(1)
        counts.append(len(world.network.tried) - before)
    assert len(world.network.tried) == 400
    assert max(counts) <= 110


def test_no_more_than_so_many_probes_hang_at_once() -> None:
    world = World(rate=10_000)
    addrs = [f"10.0.{number // 250}.{number % 250}:4001" for number in range(1, 401)]
    for addr in addrs:
        world.network.hangs(addr.partition(":")[0])
    world.start(*addrs)
    world.go_on(3)
    assert world.network.most_open == AT_ONCE
    world.go_on(4 * INTERVAL)
    assert {world.up(addr) for addr in addrs} == {False}
    result(world.rounds.stopService())
    assert world.network.open == 0


def test_a_node_that_is_removed_while_it_is_probed_leaves_nothing_behind() -> None:
    world = World(interval=1.0)
    world.network.hangs("10.0.0.1")
    discovery_id = world.start(A)
    while world.rounds.outcomes["no_answer"] < FAILURES - 1 or not world.network.open:
        world.go_on(0.1)
    result(Deferred.fromCoroutine(world.daemon.directory.remove(discovery_id, A)))
    world.go_on(10)
    assert world.rounds.outcomes["no_answer"] == FAILURES, "the last of which found it down"
    assert set(world.rounds.states.values()) == {0}
    result(world.rounds.stopService())


def test_looking_for_nodes_to_probe_holds_nobody_up(world: World) -> None:
    addrs = [f"192.0.{number // 250}.{number % 250}:4001" for number in range(950)]
    world.start(*addrs)
    assert 0 < sum(world.rounds.states.values()) <= 100, "before anybody else has had a turn"
    world.go_on(2)
    assert world.rounds.states["not_allowed"] == 950


def test_a_stop_lets_go_of_every_connection_and_timer(world: World) -> None:
    world.network.hangs("10.0.0.1")
    world.start(A, B)
    world.go_on(0.5)
    assert world.network.open == 1
    result(world.rounds.stopService())
    assert world.network.open == 0
    assert world.clock.getDelayedCalls() == []


def test_the_log_says_once_that_a_node_is_down_and_once_that_it_is_up_again(world: World, log: Any) -> None:
    world.start(A)
    world.go_on(6 * INTERVAL)
    world.network.listens("10.0.0.1")
    world.go_on(10 * INTERVAL)
    said = [(event["log_format"], event["target"], event["outcome"]) for event in log if "target" in event]
    assert said == [
        ("a node is down", f"http://{A}", "refused"),
        ("a node is up again", f"http://{A}", "ready"),
    ]


def test_targets_are_told_apart_by_how_they_are_asked() -> None:
    assert Target("http", "10.0.0.1", 1, True) != Target("https", "10.0.0.1", 1, True)
