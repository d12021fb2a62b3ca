"""Probes of many nodes as they come and go: who is probed when, and that nobody is who must not
be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.probes.probe_state import FAILURES_UNTIL_DOWN
from rqdisco.probes.scheduler import MAX_CONCURRENT
from tests.support.any_daemon import Probe
from tests.support.daemon import Daemon, create_id, register, result
from tests.support.etcd.daemon import EtcdDaemon
from tests.support.etcd.wire import PutRequest
from tests.support.network import NOT_READY

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
INTERVAL = 10.0


class World:
    """A daemon that probes, on a clock, and the network of its nodes."""

    def __init__(self, rate: float = 100.0, interval: float = INTERVAL) -> None:
        self.probe = Probe(interval=interval, rate=rate)
        self.network = self.probe.network
        self.daemon = Daemon(probe=self.probe)
        self.clock = self.daemon.clock
        assert self.daemon.rounds is not None
        self.rounds = self.daemon.rounds

    def start(self, *addrs: str) -> str:
        """Create an ID with nodes at these addresses; begin to probe."""
        discovery_id = create_id(self.daemon)
        for addr in addrs:
            result(register(self.daemon, discovery_id, addr, THIS_MACHINE))
        if not self.rounds.running:
            self.rounds.startService()
        return discovery_id

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps in which everything that is due may happen."""
        self.clock.pump([0.05] * round(seconds * 20))

    def up(self, addr: str) -> bool | None:
        """Report whether a node is up."""
        seen = self.rounds.status(Node(addr=addr))
        return None if seen is None else seen.up

    def tries(self, ip: str = "10.0.0.1") -> int:
        """Return the number of connections to it."""
        return sum(attempted == ip for attempted, _ in self.network.attempted)


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
    world.advance(1)
    assert (world.up(A), world.up(B)) == (True, None)
    world.advance(2.5 * INTERVAL)
    assert (world.up(A), world.up(B)) == (True, False)
    assert dict(+world.rounds.states) == {"up": 1, "down": 1}
    world.network.listens("10.0.0.3", NOT_READY)
    register(world.daemon, discovery_id, C)
    world.advance(INTERVAL)
    assert world.up(C)
    assert dict(+world.rounds.states) == {"up": 1, "down": 1, "not_ready": 1}
    result(Deferred.fromCoroutine(world.daemon.directory.remove(discovery_id, B)))
    world.advance(INTERVAL)
    assert world.up(B) is None
    assert dict(+world.rounds.states) == {"up": 1, "not_ready": 1}
    assert world.rounds.outcomes["refused"] == 4


def test_a_node_is_probed_once_in_an_interval_however_often_it_is_registered(world: World) -> None:
    world.network.listens("10.0.0.1")
    for _ in range(3):
        world.start(A)
    world.advance(10 * INTERVAL + 5)
    assert 9 <= world.tries() <= 11


def test_a_node_that_stays_down_is_probed_ten_times_less_often(world: World) -> None:
    world.start(A)
    world.advance(20 * INTERVAL)
    before = world.tries()
    world.advance(100 * INTERVAL)
    assert 8 <= world.tries() - before <= 11


def test_a_node_that_returns_is_up_at_its_next_probe(world: World) -> None:
    world.start(A)
    world.advance(3 * INTERVAL)
    assert world.up(A) is False
    world.network.listens("10.0.0.1")
    world.advance(2 * INTERVAL)
    assert world.up(A) is True


def test_a_node_that_registers_again_counts_as_up_and_is_probed_soon(world: World) -> None:
    world.start(A)
    world.advance(30 * INTERVAL)
    assert world.up(A) is False
    world.network.listens("10.0.0.1", NOT_READY)
    world.rounds.on_registration(Node(addr=A))
    assert world.up(A) is None
    world.advance(INTERVAL / 2)
    assert world.up(A) is True


def test_only_nodes_in_the_networks_are_connected_to(world: World) -> None:
    world.probe.resolver.known["here.example.org"] = ["10.0.0.7"]
    world.probe.resolver.known["there.example.org"] = ["192.0.2.7"]
    world.probe.resolver.known["both.example.org"] = ["10.0.0.8", "127.0.0.1"]
    world.probe.resolver.known["mapped.example.org"] = ["::ffff:127.0.0.1"]
    hosts = ("here", "there", "both", "mapped")
    world.start("127.0.0.1:22", "[::1]:22", "192.0.2.1:4001", *(f"{host}.example.org:4001" for host in hosts))
    world.advance(5 * INTERVAL)
    assert set(world.network.attempted) == {("10.0.0.7", 4001)}
    assert world.rounds.states["not_allowed"] == 6


def test_probes_connect_to_the_address_that_was_allowed_whatever_the_name_resolves_to_next(world: World) -> None:
    answers = iter([["10.0.0.7"], ["127.0.0.1"]])

    class Rebinding(dict[str, Sequence[str]]):
        def get(self, name: str, default: Any = None) -> Any:
            return next(answers, ["127.0.0.1"])

    world.probe.resolver.known = Rebinding()
    world.network.listens("10.0.0.7")
    world.start("evil.example.org:4001")
    world.advance(1)
    assert world.up("evil.example.org:4001")
    world.advance(20 * INTERVAL)
    assert set(world.network.attempted) == {("10.0.0.7", 4001)}
    assert world.up("evil.example.org:4001") is None
    assert world.rounds.states["not_allowed"] == 1


def test_a_name_is_up_if_one_of_its_addresses_is_and_unresolved_if_it_has_none(world: World) -> None:
    world.probe.resolver.known["n1.example.org"] = ["10.0.0.1", "10.0.0.2"]
    world.network.listens("10.0.0.2")
    world.start("n1.example.org:4001", "n2.example.org:4001")
    world.advance(3 * INTERVAL)
    assert (world.up("n1.example.org:4001"), world.up("n2.example.org:4001")) == (True, None)
    assert +world.rounds.states == {"up": 1, "unresolved": 1}
    assert world.rounds.outcomes["unresolved"] == 3


def test_many_nodes_are_probed_evenly_and_within_the_rate_in_every_second(world: World) -> None:
    addrs = [f"10.0.{number // 250}.{number % 250}:4001" for number in range(1, 401)]
    world.start(*addrs)
    counts = []
    for _ in range(5):
        before = len(world.network.attempted)
        world.advance(1)
        counts.append(len(world.network.attempted) - before)
    assert len(world.network.attempted) == 400
    assert max(counts) <= 110


def test_the_number_of_hanging_probes_is_bounded() -> None:
    world = World(rate=10_000)
    addrs = [f"10.0.{number // 250}.{number % 250}:4001" for number in range(1, 401)]
    for addr in addrs:
        world.network.hangs(addr.partition(":")[0])
    world.start(*addrs)
    world.advance(3)
    assert world.network.most_open == MAX_CONCURRENT
    world.advance(4 * INTERVAL)
    assert {world.up(addr) for addr in addrs} == {False}
    result(world.rounds.stopService())
    assert world.network.open == 0


def test_a_node_that_is_removed_while_it_is_probed_leaves_nothing_behind() -> None:
    world = World(interval=1.0)
    world.network.hangs("10.0.0.1")
    discovery_id = world.start(A)
    while world.rounds.outcomes["no_answer"] < FAILURES_UNTIL_DOWN - 1 or not world.network.open:
        world.advance(0.1)
    result(Deferred.fromCoroutine(world.daemon.directory.remove(discovery_id, A)))
    world.advance(10)
    assert world.rounds.outcomes["no_answer"] == FAILURES_UNTIL_DOWN, "the last of which found it down"
    assert set(world.rounds.states.values()) == {0}
    result(world.rounds.stopService())


def test_finding_nodes_to_probe_blocks_nobody(world: World) -> None:
    addrs = [f"192.0.{number // 250}.{number % 250}:4001" for number in range(950)]
    world.start(*addrs)
    assert 0 < sum(world.rounds.states.values()) <= 100, "before anything else has had a turn"
    world.advance(2)
    assert world.rounds.states["not_allowed"] == 950


def test_stopping_closes_every_connection_and_timer(world: World) -> None:
    world.network.hangs("10.0.0.1")
    world.start(A, B)
    world.advance(0.5)
    assert world.network.open == 1
    result(world.rounds.stopService())
    assert world.network.open == 0
    assert world.clock.getDelayedCalls() == []


def test_the_log_reports_once_that_a_node_is_down_and_once_that_it_is_up_again(world: World, log: Any) -> None:
    world.start(A)
    world.advance(6 * INTERVAL)
    world.network.listens("10.0.0.1")
    world.advance(10 * INTERVAL)
    logged = [(event["log_format"], event["target"], event["outcome"]) for event in log if "target" in event]
    assert logged == [
        ("node is down", f"http://{A}", "refused"),
        ("node is up again", f"http://{A}", "ready"),
    ]


def test_nodes_are_probed_although_a_damaged_record_ends_each_round_early() -> None:
    probe = Probe(interval=INTERVAL, rate=100.0)
    daemon, node = EtcdDaemon(probe=probe), Node(addr=A)
    # Records are read by 300.
    ids = [create_id(daemon) for _ in range(300)]
    daemon.cluster.model.put(PutRequest(key=b"/rqdisco/v1/ids/zzz", value=b"{"), None)
    result(register(daemon, ids[0], A, THIS_MACHINE))
    probe.network.listens("10.0.0.1")
    rounds = daemon.rounds
    assert rounds is not None
    rounds.startService()
    daemon.clock.pump([0.05] * round(20 * INTERVAL))
    assert (status := rounds.status(node)) is not None
    assert status.up
    probe.network.is_gone("10.0.0.1")
    daemon.clock.pump([0.05] * round(20 * 4 * INTERVAL))
    assert (status := rounds.status(node)) is not None
    assert not status.up
    result(rounds.stopService())
