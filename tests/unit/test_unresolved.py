"""Host names that do not resolve: an ID with a thousand of them takes nothing from others, and
nodes with such names have a state of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.records import Node
from rqdisco.probes.node_health import down_last, without_down
from tests.support.any_daemon import Probe
from tests.support.daemon import Daemon, result, transferred
from tests.support.dns import ZONE, Names, answers, checked, question
from tests.support.dns_sockets import CLIENT, Reactor
from tests.support.resolver import Resolver

UNRESPONSIVE = tuple(f"n{number}.unresponsive.example.org" for number in range(1000))
KNOWN: dict[str, Sequence[str]] = {f"n{number}.known.example.org": [f"10.0.0.{number}"] for number in (1, 2, 3)}
COMPLETE = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
ANOTHER = ("198.51.100.8", 5353)
INTERVAL = 10.0
DAY = 86_400


def addrs(hosts: Sequence[str]) -> list[str]:
    return [f"{host}:4001" for host in hosts]


def prepare(resolver: Resolver) -> None:
    """Resolve three names, and never answer for a thousand others."""
    resolver.known |= KNOWN
    resolver.is_unresponsive = lambda host: host.endswith(".unresponsive.example.org")


@pytest.fixture
def names() -> Names:
    names = Names()
    prepare(names.resolver)
    return names


def answered(names: Names, discovery_id: str) -> list[str]:
    """Return the addresses of an ID, after as long as the answer takes."""
    query = question(f"{discovery_id}.{ZONE}")
    names.udp.sent.clear()
    names.udp.protocol.datagramReceived(query, CLIENT)
    for seconds in (0, 1.5):
        names.reactor.advance(seconds)
        for answer in [packet for packet, addr in names.udp.sent if addr == CLIENT]:
            return answers(checked(query, answer, 1232))
    raise AssertionError("not answered in time")


@pytest.mark.parametrize("also", [(), tuple(KNOWN)])
def test_a_thousand_names_of_one_id_leave_out_nothing_of_another(names: Names, also: Sequence[str]) -> None:
    """Even if those of the other are among them."""
    names.add("noisy", *addrs(UNRESPONSIVE[: 1000 - len(also)]), *addrs(also))
    names.add("quiet", *addrs(tuple(KNOWN)))
    complete = 0
    for _ in range(59):
        names.exchange(question(f"noisy.{ZONE}"), ANOTHER)
        complete += answered(names, "quiet") == COMPLETE
        names.reactor.advance(1)
    assert complete == 59


class World:
    """A daemon that probes every 10 seconds."""

    def __init__(self) -> None:
        self.probe = Probe(interval=INTERVAL)
        self.resolver, self.network = self.probe.resolver, self.probe.network
        self.daemon = Daemon(clock=Reactor(), probe=self.probe)
        self.clock = self.daemon.clock
        assert self.daemon.rounds is not None
        self.rounds = self.daemon.rounds
        prepare(self.resolver)

    def start(self, *addrs: str) -> str:
        """Create an ID with nodes at these addresses; begin to probe."""
        discovery_id = f"id{self.daemon.size}"
        brought = transferred(discovery_id, *(Node(addr=addr) for addr in addrs))
        result(Deferred.fromCoroutine(self.daemon.directory.adopt(brought, as_own=True)))
        if not self.rounds.running:
            self.rounds.startService()
        return discovery_id

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def skip(self, seconds: float) -> None:
        """Let time pass in which little happens."""
        self.clock.pump([2.0] * round(seconds / 2))

    def seen(self, addr: str) -> str:
        """Return the state of a node in a word."""
        seen = self.rounds.status(Node(addr=addr))
        if seen is None:
            return "unknown"
        return "unresolved" if seen.unresolved else "up" if seen.up else "down"


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("also", [(), tuple(KNOWN)])
def test_running_nodes_are_never_down_because_another_id_has_a_thousand_names(
    world: World, also: Sequence[str]
) -> None:
    for ip in COMPLETE:
        world.network.listens(ip)
    world.start(*addrs(UNRESPONSIVE[: 1000 - len(also)]), *addrs(also))
    world.start(*addrs(tuple(KNOWN)))
    world.advance(INTERVAL / 2)
    for _ in range(10):
        world.advance(INTERVAL)
        assert [world.seen(f"{host}:4001") for host in KNOWN] == ["up", "up", "up"]
        assert +world.rounds.states == {"unresolved": 1000 - len(also), "up": 3}


def test_a_node_whose_name_never_resolves_stays_unresolved_and_is_never_down(world: World) -> None:
    world.start("n0.unresponsive.example.org:4001", "absent.example.org:4001")
    world.advance(INTERVAL)
    for _ in range(20):
        world.advance(INTERVAL)
        assert {world.seen(f"{host}:4001") for host in ("n0.unresponsive.example.org", "absent.example.org")} == {
            "unresolved"
        }
    assert +world.rounds.states == {"unresolved": 2}


@pytest.mark.parametrize("silently", [True, False])
def test_a_running_node_stays_up_while_its_name_cannot_be_resolved(world: World, silently: bool) -> None:
    world.network.listens("10.0.0.1")
    world.start("n1.known.example.org:4001")
    world.advance(INTERVAL)
    world.resolver.goes_away(silently=silently)
    for _ in range(60):
        world.skip(INTERVAL)
        assert world.seen("n1.known.example.org:4001") == "up"


def test_a_node_is_unresolved_after_a_day_without_its_name(world: World) -> None:
    world.network.listens("10.0.0.1")
    world.start("n1.known.example.org:4001")
    world.advance(INTERVAL)
    world.resolver.goes_away(silently=False)
    while world.clock.seconds() < DAY - 60:
        world.clock.pump([2.0] + [15.0] * 20)
    assert world.seen("n1.known.example.org:4001") == "up"
    world.skip(400)
    assert world.seen("n1.known.example.org:4001") == "unresolved"


@pytest.mark.parametrize("was_up", [True, False])
def test_a_cached_address_without_an_answer_does_not_make_a_node_down(world: World, was_up: bool) -> None:
    """It may have moved, and the name leads to the new address for whoever can resolve it."""
    if was_up:
        world.network.listens("10.0.0.1")
    world.start("n1.known.example.org:4001")
    world.advance(INTERVAL / 2)
    world.resolver.goes_away(silently=False)
    world.network.is_gone("10.0.0.1")
    for _ in range(20):
        world.advance(INTERVAL)
        assert world.seen("n1.known.example.org:4001") != "down"
    assert world.seen("n1.known.example.org:4001") == "unresolved"
    world.resolver.is_broken = lambda _: False
    world.advance(20 * INTERVAL)
    assert world.seen("n1.known.example.org:4001") == "down", "once the name resolves to the intended address"


def test_a_resolver_that_takes_three_seconds_hides_no_node_that_is_down(world: World) -> None:
    world.resolver.hold = True
    world.start("n1.known.example.org:4001")
    states = []
    for _ in range(600):
        world.advance(3)
        world.resolver.release()
        states.append(world.seen("n1.known.example.org:4001"))
    assert "down" in states[:30]
    assert set(states[30:]) == {"down"}


def test_a_node_that_was_down_becomes_unresolved_once_its_name_is_gone_and_that_is_logged(
    world: World, log: Any
) -> None:
    world.start("n1.known.example.org:4001")
    world.advance(5 * INTERVAL)
    assert world.seen("n1.known.example.org:4001") == "down"
    world.resolver.known = {}
    world.advance(20 * INTERVAL)
    assert world.seen("n1.known.example.org:4001") == "unresolved"
    world.resolver.known = KNOWN
    world.network.listens("10.0.0.1")
    world.advance(20 * INTERVAL)
    assert world.seen("n1.known.example.org:4001") == "up"
    target = "http://n1.known.example.org:4001"
    logged = [(event["log_format"], event["outcome"]) for event in log if event.get("target") == target]
    assert logged == [("node is down", "refused"), ("node that was down does not resolve", "unresolved")]


def test_an_unresolved_node_keeps_its_position_in_lists_and_nodes_that_are_down_come_last(world: World) -> None:
    world.network.listens("10.0.0.9")
    discovery_id = world.start("10.0.0.8:4001", "absent.example.org:4001", "10.0.0.9:4001")
    world.advance(5 * INTERVAL)
    record = result(Deferred.fromCoroutine(world.daemon.directory.look_up(discovery_id)))
    listed = [node.addr for node in down_last(record.nodes, world.rounds)]
    assert listed == ["absent.example.org:4001", "10.0.0.9:4001", "10.0.0.8:4001"]
    left = [node.addr for node in without_down(record, world.rounds).nodes]
    assert left == ["absent.example.org:4001", "10.0.0.9:4001"]


def test_dns_answers_with_nodes_whose_names_the_probes_cannot_resolve() -> None:
    """The names that DNS resolves count, not those that the probes resolve."""
    probe = Probe(interval=INTERVAL)
    names = Names(daemon=Daemon(clock=Reactor(), probe=probe))
    names.resolver.known |= KNOWN
    names.add("id", *addrs(tuple(KNOWN)))
    assert names.daemon.rounds is not None
    names.daemon.rounds.startService()
    names.daemon.clock.pump([0.25] * 4 * 100)
    assert +names.daemon.rounds.states == {"unresolved": 3}
    assert answers(names.ask(f"id.{ZONE}")) == COMPLETE


def test_all_nodes_of_an_id_with_a_thousand_resolvable_names_are_up_soon_and_none_is_unresolved(world: World) -> None:
    hosts = [f"n{number}.many.example.org" for number in range(1000)]
    world.resolver.known = {host: [f"10.1.{number // 250}.{number % 250}"] for number, host in enumerate(hosts)}
    for (ip,) in world.resolver.known.values():
        world.network.listens(ip)
    world.resolver.hold = True
    world.start(*addrs(hosts))
    for _ in range(1000):
        world.clock.advance(0.02)
        world.resolver.release()
        assert not world.rounds.states["unresolved"]
    assert +world.rounds.states == {"up": 1000}
