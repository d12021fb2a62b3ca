"""Clusters that form through the real daemon: always one leader, and nobody is left waiting."""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from random import Random
from threading import Condition

import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, DaemonProcess
from tests.support.rqlited import VERSIONS, Node, Outcome, RqliteNetwork, Version, run_all

pytestmark = pytest.mark.process

ROUNDS = 100
FORMS = (
    "10.0.0.{}:4001",
    "node-{}.example.svc:4001",
    "[fdaa::{}]:4001",
    "https://node-{}:4001",
    "http://10.0.0.{}:4001",
)


def some_address(random: Random, number: int, version: Version) -> str:
    """Return an address as such a release accepts it; 6.10 needs host:port."""
    return random.choice(FORMS[:3] if version.name.startswith("6.10") else FORMS).format(number)


def some_nodes(
    daemon: DaemonProcess, discovery_id: str, network: RqliteNetwork, seed: int, count: int = 3
) -> list[Node]:
    """Return nodes of mixed releases that are about to form a cluster."""
    random = Random(seed)
    versions = random.choices(VERSIONS, k=count)
    return [
        Node(version, some_address(random, number, version), discovery_id, lambda: daemon.port, network)
        for number, version in enumerate(versions, 1)
    ]


def assert_one_cluster(outcomes: Sequence[Outcome], network: RqliteNetwork, seed: int) -> None:
    """Assert that all nodes are in the cluster of the only leader."""
    kinds = sorted(outcome.kind for outcome in outcomes)
    assert kinds == ["joined"] * (len(outcomes) - 1) + ["leader"], (seed, outcomes)
    assert list(map(len, network.clusters.values())) == [len(outcomes)], seed


def test_nodes_that_start_at_once_form_one_cluster(daemon: DaemonProcess) -> None:
    for seed in range(ROUNDS):
        network = RqliteNetwork()
        nodes = some_nodes(daemon, daemon.create_id(), network, seed)
        assert_one_cluster(run_all(nodes), network, seed)


def disconnect_early(daemon: DaemonProcess, request: bytes, how: str) -> None:
    """Send all of `request` and disconnect before any answer is read, or even before there is
    one.
    """
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as connection:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(request)
        if how == "unread":
            assert select.select([connection], [], [], PATIENCE)[0]


@pytest.mark.parametrize("how", ["close", "reset", "unread"])
def test_nobody_is_stuck_behind_a_node_that_died_asking(daemon: DaemonProcess, how: str) -> None:
    """Its supervisor restarts it; if it holds the grant, only that lets the others continue."""
    for seed in range(ROUNDS):
        network, discovery_id = RqliteNetwork(), daemon.create_id()
        died, *nodes = some_nodes(daemon, discovery_id, network, seed, count=4)
        disconnect_early(daemon, VERSIONS[seed % len(VERSIONS)].request(died.addr, discovery_id, "localhost"), how)
        with ThreadPoolExecutor() as pool:
            others = pool.submit(run_all, nodes)
            for node in nodes:
                assert node.answered.wait(PATIENCE), seed
            outcome = died.run_supervised()
            somebody_granted = any(node.listed == [node.addr] for node in nodes)
            assert outcome.kind == ("joined" if somebody_granted else "leader"), seed
            assert not (somebody_granted and how == "unread"), seed
            assert_one_cluster([outcome, *others.result()], network, seed)


def test_one_of_many_first_registrations_is_granted(daemon: DaemonProcess) -> None:
    discovery_id = daemon.create_id()
    addresses = [f"nöde-{number}.<{number}>&:4001" for number in range(200)]
    requests = [
        VERSIONS[number % len(VERSIONS)].request(addr, discovery_id, "localhost")
        for number, addr in enumerate(addresses)
    ]
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)) for _ in addresses
        ]
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[:-1])
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[-1:])
        answers = [nodes_answered(connection) for connection in connections]
    bootstrap = [answer for answer in answers if len(answer) == 1]
    assert len(bootstrap) == 1
    for addr, answer in zip(addresses, answers, strict=True):
        assert addr in answer
        assert answer[0] == bootstrap[0][0]
        assert len(set(answer)) == len(answer)
    assert sorted(daemon.nodes(discovery_id)) == sorted(addresses)


def nodes_answered(connection: socket.socket) -> list[str]:
    """Return the list in the next answer, which must be a 200."""
    response = HTTPResponse(connection)
    response.begin()
    content = response.read()
    assert response.status == 200, content
    nodes: list[str] = json.loads(content)["nodes"]
    return nodes


class Restarted:
    """A service whose address supervisors learn when it is up, as `status --wait` does for them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._port: int | None = None

    def port(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._port is not None, PATIENCE)
            assert self._port is not None
            return self._port

    def is_at(self, port: int | None) -> None:
        with self._changed:
            self._port = port
            self._changed.notify_all()


def test_cluster_forms_though_the_daemon_is_killed(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    for seed in range(8):
        network, service, discovery_id = RqliteNetwork(), Restarted(), daemon.create_id()
        random = Random(seed)
        nodes = [
            Node(random.choice(VERSIONS), f"10.0.0.{number}:4001", discovery_id, service.port, network)
            for number in range(3)
        ]
        service.is_at(daemon.port)
        with ThreadPoolExecutor() as pool:
            running = pool.submit(run_all, nodes, supervised=True)
            moment = random.choice([moment for node in nodes for moment in (node.has_asked, node.answered)])
            assert moment.wait(PATIENCE), seed
            service.is_at(None)
            daemon.kill()
            daemon = start(tmp_path / "state")
            service.is_at(daemon.port)
            assert_one_cluster(running.result(), network, seed)
