"""The double of rqlite 7-10 with consul-kv behaves as rqlite, and Go's HTTP client, are known
to.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from operator import attrgetter

import pytest

from tests.support import consul_nodes
from tests.support.consul_nodes import ConsulNode, Failed, leader_in, leader_value
from tests.support.scripted import Consul, reply
from tests.support.virtual import NEW_ENDPOINTS, OLD_ENDPOINTS, Peer, Service, VirtualNetwork, World

PEER = Peer("1", "h:1", "h:2", NEW_ENDPOINTS)
VALUE = b'{"id":"1","api_addr":"http://h:1","addr":"h:2"}'


def leader_in_own(node: ConsulNode) -> str:
    """Return where a node that follows its own record joins."""
    leader = leader_in(json.dumps([{"Value": b64encode(leader_value(node.peer)).decode()}]).encode())
    assert leader is not None
    return leader[node.release.joins_by]


class Stage:
    """A world with a network and a Consul."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.network = VirtualNetwork(self.world)
        self.consul = Consul(self.world)

    def node(self, name: str, number: int, service: Service) -> ConsulNode:
        (release,) = (release for release in consul_nodes.RELEASES if release.name == name)
        return ConsulNode(release, number, "rqlite", service, self.world, self.network)


READ_AS = {"8.39": b"Content-Type: application/json\r\n", "10.2": b"Content-Type: application/json; charset=utf-8\r\n"}


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_consul_requests_are_rqlites_to_the_byte(release: consul_nodes.ConsulRelease) -> None:
    """As Consul's Go client sent them to a socket: api v1.12.0, v1.22.0, v1.26.1, v1.32.1 and
    v1.34.3.
    """
    assert release.read("rqlite") == (
        b"GET /v1/kv/rqlite/leader HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nUser-Agent: Go-http-client/1.1\r\n"
        + READ_AS.get(release.name, b"")
        + b"Accept-Encoding: gzip\r\n\r\n"
    )
    assert release.put("a b/ü", leader_value(PEER), "cas=0&dc=dc1", token="T") == (
        b"PUT /v1/kv/a%20b/%C3%BC/leader?cas=0&dc=dc1 HTTP/1.1\r\nHost: 127.0.0.1:8500\r\n"
        b"User-Agent: Go-http-client/1.1\r\nContent-Length: 47\r\nContent-Type: application/octet-stream\r\n"
        b"X-Consul-Token: T\r\nAccept-Encoding: gzip\r\n\r\n" + VALUE
    )


def test_the_value_is_written_like_go() -> None:
    assert leader_value(PEER) == VALUE
    assert leader_value(Peer("<&>é", "h:1", "", NEW_ENDPOINTS)) == (
        rb'{"id":"\u003c\u0026\u003e' + "é".encode() + b'","api_addr":"http://h:1"}'
    )


@pytest.mark.parametrize("content", [b"[]", b"null", b"[null]"])
def test_an_answer_without_an_entry_names_no_leader(content: bytes) -> None:
    assert leader_in(content) is None


@pytest.mark.parametrize("value", [b"", b"x", b"[]", b'"s"'])
def test_a_value_that_is_not_an_object_is_an_error(value: bytes) -> None:
    with pytest.raises(Failed):
        leader_in(json.dumps([{"Value": b64encode(value).decode()}]).encode())
    with pytest.raises(Failed):
        leader_in(b'[{"Value": "%"}]')
    assert leader_in(b'[{"value": "' + b64encode(VALUE) + b'"}]') == {"http": "http://h:1", "raft": "h:2"}


def test_a_claim_is_won_by_an_answer_that_contains_true() -> None:
    for answer, has_won in [
        (reply(200, b"true"), True),
        (reply(200, b'{"error": "not true"}'), True),
        (reply(200, b"false"), False),
        (reply(201, b"true"), False),
        (reply(500, b"true"), False),
        (reply(404, b"true"), False),
        (b"", False),
    ]:
        stage = Stage()
        with stage.consul.serve() as service:
            stage.consul.answers = [reply(404), answer]
            node = stage.node("10.2", 1, service)
            node.start()
            stage.world.run(0.01)
            assert node.has_won == has_won, answer
            assert stage.consul.kinds() == ["get", "claim"]


def test_a_claim_is_attempted_even_if_the_read_failed_and_the_answer_is_logged() -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        stage.consul.answers = [reply(403, b"ACL not found"), reply(503, b"store unavailable")]
        node = stage.node("7.0", 1, service)
        node.start()
        stage.world.run(2.9)
        assert node.log == [
            "failed to get leader: Unexpected response code: 403 (ACL not found)",
            "failed to initialize as Leader: Unexpected response code: 503 (store unavailable)",
        ]
        assert stage.consul.kinds() == ["get", "claim"]
        stage.world.run(3.1)
        assert stage.consul.kinds(since=3) == ["get", "claim"]
        assert node.has_won


def test_a_value_that_cannot_be_parsed_keeps_a_node_asking_for_ever() -> None:
    stage = Stage()
    stage.consul.value = b"10.0.0.1:4001"
    with stage.consul.serve() as service:
        node = stage.node("8.0", 1, service)
        node.start()
        assert not stage.world.run(600, stage.network.is_formed)
        assert 100 <= stage.consul.kinds().count("claim") <= 200
        assert len(stage.consul.connections) == 1, "connections are kept"


@pytest.mark.parametrize(
    ("name", "endpoints", "seconds"),
    [("7.0", OLD_ENDPOINTS, 20), ("7.21", OLD_ENDPOINTS, 12), ("8.0", NEW_ENDPOINTS, 12)],
)
def test_a_node_joins_by_the_address_of_its_kind_five_times_and_asks_again(
    name: str, endpoints: frozenset[str], seconds: float
) -> None:
    stage = Stage()
    leader = Peer("9", "10.0.0.9:4001", "10.0.0.9:4002", endpoints)  # type: ignore[arg-type]
    stage.network.add(leader)
    stage.consul.value = leader_value(leader)
    with stage.consul.serve() as service:
        node = stage.node(name, 1, service)
        node.start()
        stage.world.run(seconds + 0.9)
        assert stage.consul.kinds() == ["get"]
        stage.world.run(0.2)
        assert stage.consul.kinds() == ["get", "get"]
        stage.network.switch(leader, on=True)
        stage.network.bootstrap([leader])
        assert stage.world.run(10, stage.network.is_formed)
        assert stage.network.clusters == {"9": ["9", "n1"]}


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_leader_reports_at_once_and_repeatedly(release: consul_nodes.ConsulRelease) -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node(release.name, 1, service)
        node.start()
        stage.world.run(1000)
        assert stage.consul.kinds()[:3] == ["get", "claim", "report"]
        assert stage.consul.kinds()[3:] == ["report"] * (3 if release.name == "7.0" else 100)
        assert stage.consul.asked[2][0] < 3
        node.kill()
        stage.world.run(1000)
        assert stage.consul.kinds(since=1001) == []
        node.start()
        stage.world.run(5)
        assert stage.consul.kinds(since=2000) == ["report"], "it has a configuration and sends no request"


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_cluster_forms_in_the_time_that_real_ones_take(release: consul_nodes.ConsulRelease) -> None:
    """Losers wait for 3 to 6 seconds before they read the leader, and then there is one."""
    for seed in range(10):
        stage = Stage(seed)
        with stage.consul.serve() as service:
            for number in range(3):
                stage.node(release.name, number, service).start()
            assert not stage.world.run(2.9, stage.network.is_formed)
            assert stage.world.run(3.4, stage.network.is_formed)


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_node_reports_at_the_moment_it_becomes_leader(release: consul_nodes.ConsulRelease) -> None:
    """So its claim stays unreported for a second or two, and the record follows a leader that died
    within three.
    """
    stage = Stage()
    with stage.consul.serve() as service:
        nodes = [stage.node(release.name, number, service) for number in range(3)]
        for node in nodes:
            node.start()
        assert stage.world.run(10, stage.network.is_formed)
        moments = dict(zip(stage.consul.kinds(), (at for at, _ in stage.consul.asked), strict=True))
        claimed = min(at for at, request in stage.consul.asked if b"cas=0" in request)
        assert 1 <= moments["report"] - claimed <= 2.1

        leader = next(node for node in nodes if node.has_won)
        leader.kill()
        killed = stage.world.now
        assert stage.world.run(3, stage.network.is_formed)
        stage.world.run(0.1)
        reports = [at for at, request in stage.consul.asked if at > killed and b"cas=0" not in request]
        assert 1.8 <= reports[0] - killed <= 2.8
        assert stage.consul.value != leader_value(leader.peer)


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_lost_first_report_is_repeated_at_the_next_turn(release: consul_nodes.ConsulRelease) -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        stage.consul.answers = [reply(404), reply(200, b"true"), b""]
        node = stage.node(release.name, 1, service)
        node.start()
        stage.world.run(release.report_seconds - 0.1)
        assert stage.consul.kinds() == ["get", "claim", "report"]
        assert stage.consul.value is None
        stage.world.run(0.2)
        assert stage.consul.value == leader_value(node.peer)


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_running_winner_without_its_answer_joins_itself_for_ever(release: consul_nodes.ConsulRelease) -> None:
    """No restart is needed: it reads its own record the next time, and all others follow it."""
    stage = Stage()
    with stage.consul.serve() as service:
        stage.consul.answers = [reply(404), b""]
        node = stage.node(release.name, 1, service)
        node.start()
        stage.world.run(1)
        stage.consul.value = leader_value(node.peer)
        assert not stage.world.run(3600, stage.network.is_formed)
        assert stage.consul.kinds().count("claim") == 1
        assert set(node.log[1:]) == {f"failed to join cluster at {leader_in_own(node)}"}


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_claim_won_in_the_retry_loop_is_discarded(release: consul_nodes.ConsulRelease) -> None:
    stage = Stage()
    stage.consul.value = leader_value(PEER)
    with stage.consul.serve() as service:
        node = stage.node(release.name, 1, service)
        node.start()
        stage.world.run(5)
        stage.consul.value = None
        assert not stage.world.run(3600, stage.network.is_formed)
        assert node.has_won
        assert stage.consul.kinds().count("claim") == 1
        assert stage.consul.value == leader_value(node.peer)
        node.kill()
        node.start()
        assert not stage.world.run(3600, stage.network.is_formed), "nor after a restart"


@pytest.mark.parametrize(("name", "claims"), [("8.0", True), ("8.39", False)])
def test_only_old_releases_let_nodes_without_a_vote_claim(name: str, claims: bool) -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node(name, 1, service)
        node.peer.votes = False
        node.start()
        stage.world.run(60)
        assert node.has_won == claims


def test_a_connection_closed_while_idle_is_replaced() -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node("10.2", 1, service)
        node.start()
        for count in (1, 2):

            def has_reported(times: int = count) -> bool:
                return stage.consul.kinds().count("report") == times

            assert stage.world.run(20, has_reported)
            assert len(stage.consul.connections) == count
            stage.consul.connections[-1].shutdown(socket.SHUT_RDWR)
        assert node.log == []


def test_a_read_is_repeated_after_a_broken_connection_and_a_put_is_not() -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node("10.2", 1, service)
        stage.consul.answers = [reply(404), reply(200, b"false"), b"", reply(404), b""]
        node.start()
        stage.world.run(6)
        assert stage.consul.kinds() == ["get", "claim", "get", "get", "claim"]
        assert len(stage.consul.connections) == 2
        assert [line.partition(":")[0] for line in node.log] == ["failed to initialize as Leader"]


def test_two_runs_with_one_seed_are_equal_and_with_another_they_differ() -> None:
    def moments(seed: int) -> list[tuple[float, bytes]]:
        stage = Stage(seed)
        stage.consul.value = b"x"
        with stage.consul.serve() as service:
            for number in range(3):
                stage.node("8.0", number, service).start()
            stage.world.run(100)
            # The server may see concurrent requests in any order.
            return sorted(stage.consul.asked)

    assert moments(1) == moments(1)
    assert moments(1) != moments(2)
