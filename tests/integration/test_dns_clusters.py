"""Clusters of rqlite 7-10 that form through the real daemon's DNS answers: always one, with all
nodes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import permutations
from operator import attrgetter
from pathlib import Path
from typing import Literal

import pytest

from tests.integration.conftest import Start
from tests.support.dns_nodes import RELEASES, DNSNode, DNSRelease, GoResolver, NoSuchHost
from tests.support.process import DaemonProcess, Environment
from tests.support.virtual import Peer, Service, VirtualNetwork, World

pytestmark = pytest.mark.process

Mode = Literal["dns", "dns-srv"]

ZONE = "disco.example.com"
OPTIONS = ("--dns=127.0.0.1:0", f"--dns-zone={ZONE}")
ROUNDS = 25
# The releases of one line can be one cluster: rqlite 8 cannot read a snapshot of 7's, nor 10 one of
# 8's or 9's.
MIXES = (RELEASES[:3], RELEASES[3:5], RELEASES[5:])
LONG = 300.0
# Longer than any node waits for others, so that each has been restarted.
FOR_EVER = 150.0


def dns_port(daemon: DaemonProcess) -> int:
    """Return the port of the name server, for UDP and TCP."""
    (address,) = daemon.wait_for("listening")["dns"]
    return int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def shared_daemon(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with a name server for all tests of this module."""
    daemon = installed.start(*installed.twistd(tmp_path_factory.mktemp("shared") / "state", *OPTIONS))
    yield daemon
    daemon.kill()


@pytest.fixture(params=["dns", "dns-srv"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param  # type: ignore[no-any-return]


class Scene:
    """Nodes of mixed releases that are about to form a cluster of three, and the daemon with their
    addresses.
    """

    def __init__(
        self, daemon: DaemonProcess, mode: Mode, seed: int, releases: Sequence[DNSRelease] = (), hosts: str = ""
    ) -> None:
        self.daemon = daemon
        self.mode = mode
        self.world = World(seed)
        self.network = VirtualNetwork(self.world)
        self.service = Service(daemon.port, dns_port(daemon))
        self.id = daemon.create_id()
        self.hosts = hosts or "10.0.0.{}"
        chosen = releases or self.world.random.choices(self.world.random.choice(MIXES), k=3)
        self.nodes = [self.node(release) for release in chosen]

    def node(self, release: DNSRelease) -> DNSNode:
        """Return one more node, not yet registered."""
        number = 1 + len(self.network.peers)
        host = self.hosts.format(number)
        peer = Peer(f"n{number}", f"{host}:4001", f"{host}:4002", release.endpoints, expect=3)
        name = f"{self.id}.{ZONE}."
        return DNSNode(
            release, peer, self.mode, name, self.service, self.world, self.network, lambda: self.register(peer)
        )

    def register(self, peer: Peer) -> None:
        """Register a node, as ExecStartPre does."""
        if self.service.http is None:
            raise ConnectionRefusedError
        node = {"addr": peer.http_addr, "raft_addr": peer.raft_addr, "node_id": peer.node_id}
        assert self.daemon.request("POST", f"/{self.id}", node).status == 200

    def remove(self, peer: Peer) -> None:
        assert self.daemon.request("DELETE", f"/{self.id}", {"addr": peer.http_addr}).status == 200

    def start_all(self) -> None:
        """Start all nodes at once, each after it is registered."""
        for node in self.world.random.sample(self.nodes, len(self.nodes)):
            node.start()

    def forms(self, seconds: float = LONG) -> bool:
        """Report whether all nodes that run are in a cluster within that time."""
        return self.world.run(seconds, self.network.is_formed)

    def assert_one_cluster(self, *members: DNSNode) -> None:
        """Assert that these nodes, or all, are in one cluster, and there never was another."""
        assert self.forms(), self.logs
        assert len(self.network.bootstrapped) == 1, self.logs
        (found,) = self.network.clusters.values()
        assert found == sorted(node.peer.node_id for node in members or self.nodes), self.logs

    def assert_nobody_leads(self) -> None:
        """Assert that there is no cluster, however long one waits, and however often nodes are
        restarted.
        """
        assert not self.world.run(FOR_EVER, lambda: bool(self.network.bootstrapped)), self.logs

    @contextmanager
    def without_daemon(self) -> Iterator[None]:
        """Have no name server inside the context."""
        self.service.http = self.service.dns = None
        yield
        self.service.http, self.service.dns = self.daemon.port, dns_port(self.daemon)

    @property
    def logs(self) -> dict[str, list[str]]:
        return {f"{node.release.name} {node.peer.node_id}": node.log for node in self.nodes}


def test_nodes_that_start_at_once_form_one_cluster(daemon: DaemonProcess, mode: Mode) -> None:
    for seed in range(ROUNDS):
        scene = Scene(daemon, mode, seed)
        scene.start_all()
        scene.assert_one_cluster()
        assert [node.exits for node in scene.nodes] == [0, 0, 0], scene.logs


def test_nodes_form_one_cluster_in_whatever_order_they_start(daemon: DaemonProcess, mode: Mode) -> None:
    for mix in MIXES:
        for seed, releases in enumerate(permutations((*mix, *mix, *mix)[:3])):
            scene = Scene(daemon, mode, seed, releases)
            for node in scene.nodes:
                node.start_in(scene.world.random.uniform(0, 40))
            scene.world.run(40)
            scene.assert_one_cluster()


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_one_node_that_never_starts_blocks_the_others_until_it_does(
    daemon: DaemonProcess, mode: Mode, release: DNSRelease
) -> None:
    scene = Scene(daemon, mode, 1, [release] * 3)
    missing, *others = scene.nodes
    scene.register(missing.peer)
    for node in others:
        node.start()
    scene.assert_nobody_leads()
    assert all(node.exits for node in others)
    missing.start()
    scene.assert_one_cluster()


@pytest.mark.parametrize("release", RELEASES[::3], ids=attrgetter("name"))
def test_one_node_that_never_starts_can_be_replaced(daemon: DaemonProcess, mode: Mode, release: DNSRelease) -> None:
    scene = Scene(daemon, mode, 1, [release] * 4)
    missing, *others, replacement = scene.nodes
    scene.register(missing.peer)
    for node in others:
        node.start()
    scene.assert_nobody_leads()
    scene.remove(missing.peer)
    replacement.start()
    scene.assert_one_cluster(*others, replacement)


def test_a_node_that_comes_later_joins(daemon: DaemonProcess, mode: Mode) -> None:
    for seed in range(ROUNDS // 5):
        scene = Scene(daemon, mode, seed, [RELEASES[seed % len(RELEASES)]] * 4)
        *first, late = scene.nodes
        for node in first:
            node.start()
        scene.assert_one_cluster(*first)
        first[seed % 3].kill()
        scene.forms()
        late.start()
        scene.assert_one_cluster()


def test_nodes_wait_for_a_daemon_that_is_not_there_yet(daemon: DaemonProcess, mode: Mode) -> None:
    for seed in range(ROUNDS // 5):
        scene = Scene(daemon, mode, seed)
        with scene.without_daemon():
            scene.start_all()
            scene.assert_nobody_leads()
        scene.assert_one_cluster()


def test_nodes_form_one_cluster_though_the_daemon_is_killed(start: Start, tmp_path: Path, mode: Mode) -> None:
    daemon = start(tmp_path / "state", *OPTIONS)
    for seed in range(4):
        scene = Scene(daemon, mode, seed)
        scene.start_all()
        for _ in range(5 + 6 * seed):
            scene.world.step()
        with scene.without_daemon():
            daemon.kill()
            scene.world.run(scene.world.random.uniform(0, 30))
            scene.daemon = daemon = start(tmp_path / "state", *OPTIONS)
        scene.assert_one_cluster()


@pytest.mark.parametrize("release", RELEASES[4:], ids=attrgetter("name"))
def test_nodes_with_ipv6_addresses_form_a_cluster(daemon: DaemonProcess, mode: Mode, release: DNSRelease) -> None:
    scene = Scene(daemon, mode, 1, [release] * 3, hosts="[fd00::{}]")
    scene.start_all()
    scene.assert_one_cluster()


def test_a_node_with_an_unknown_host_name_blocks_nobody(daemon: DaemonProcess, mode: Mode) -> None:
    """rqlited cannot use any node while there is one whose name does not resolve, so it must not
    get that one.
    """
    scene = Scene(daemon, mode, 1, [*MIXES[1], MIXES[1][0]])
    scene.register(Peer("lost", "lost.invalid:4001", "lost.invalid:4002", frozenset()))
    scene.start_all()
    scene.assert_one_cluster()


@pytest.mark.parametrize("edns", [True, False], ids=["edns", "plain"])
def test_all_nodes_are_found_however_many_there_are(daemon: DaemonProcess, edns: bool) -> None:
    """rqlited takes an answer that is larger than a datagram for a short list, or none; so it must
    query by TCP.
    """
    scene = Scene(daemon, "dns", 1)
    resolver = GoResolver(scene.world, scene.service, edns=edns)
    name = f"{scene.id}.{ZONE}."
    expected: list[tuple[str, int]] = []
    for number in range(1, 90):
        ip, port = f"10.0.{number}.1", 4000 + number
        scene.register(Peer(f"n{number}", f"{ip}:4001", f"{ip}:{port}", frozenset()))
        expected.append((f"n-{ipaddress.ip_address(ip).packed.hex()}.{name}", port))
        if number < 20:
            assert sorted(scene.world.result(lambda: resolver.services("rqlite-raft", name))) == expected
        assert len(scene.world.result(lambda: resolver.addresses(name))) == number
    assert sorted(scene.world.result(lambda: resolver.services("rqlite-raft", name))) == expected


def test_an_absent_name_is_no_such_host_at_once(daemon: DaemonProcess) -> None:
    """Go neither retries it nor takes it for a misconfigured server."""
    scene = Scene(daemon, "dns", 1)
    for edns in (True, False):
        resolver = GoResolver(scene.world, scene.service, edns=edns)
        for name in (f"{scene.id}.{ZONE}.", f"nothing.{ZONE}.", f"{scene.id.upper()}.{ZONE}"):
            with pytest.raises(NoSuchHost):
                scene.world.result(partial(resolver.addresses, name))
            with pytest.raises(NoSuchHost):
                scene.world.result(partial(resolver.services, "rqlite-http", name))
    assert scene.world.now == 0
