"""The doubles of rqlite 7-10 do what is known of rqlite 7-10, and of Go's HTTP client and resolver."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from threading import Thread
from typing import Any, Literal

import dns.message
import dns.rrset
import pytest
from dns.flags import AA, RA, TC
from dns.message import Message
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from tests.support import consul_nodes, dns_nodes
from tests.support.consul_nodes import ConsulNode, Failed, leader_in, leader_value
from tests.support.dns_nodes import DNSNode, GoResolver, LookUpFailed
from tests.support.virtual import BOTH_DOORS, NEW_DOORS, OLD_DOORS, PATIENCE, Network, Peer, Service, World, leader_of

PEER = Peer("1", "h:1", "h:2", NEW_DOORS)
VALUE = b'{"id":"1","api_addr":"http://h:1","addr":"h:2"}'


def reply(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Some Reason\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def entry(value: bytes) -> bytes:
    """The answer to a GET as Consul gives it."""
    members = {"LockIndex": 0, "Key": "rqlite/leader", "Flags": 0, "Value": b64encode(value).decode()}
    return reply(200, json.dumps([members]).encode())


@contextmanager
def running(target: Callable[[socket.socket], None], source: socket.socket) -> Iterator[None]:
    """Serve a socket in a thread, which has ended after."""
    thread = Thread(target=target, args=[source], daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)


class Consul:
    """One key of Consul's, and what it was asked at which virtual time."""

    def __init__(self, world: World) -> None:
        self.value: bytes | None = None
        self.answers: list[bytes] = []
        self.asked: list[tuple[float, bytes]] = []
        self.connections: list[socket.socket] = []
        self._world = world

    def answer(self, request: bytes) -> bytes:
        """The next canned answer, or else what Consul would say."""
        self.asked.append((self._world.now, request))
        if self.answers:
            return self.answers.pop(0)
        if request.startswith(b"GET"):
            return reply(404) if self.value is None else entry(self.value)
        if b"?cas=0" in request and self.value is not None:
            return reply(200, b"false")
        self.value = request.partition(b"\r\n\r\n")[2]
        return reply(200, b"true")

    def kinds(self, since: float = 0) -> list[str]:
        """The requests from some time on, in short."""
        return [
            "get" if request.startswith(b"GET") else "claim" if b"cas=0" in request else "report"
            for at, request in self.asked
            if at >= since
        ]

    @contextmanager
    def serve(self) -> Iterator[Service]:
        """Answer over real connections meanwhile."""
        with socket.create_server(("127.0.0.1", 0)) as listener, running(self._accept, listener):
            try:
                yield Service(http=listener.getsockname()[1])
            finally:
                listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while (request := connection.recv(65536)) and (answer := self.answer(request)):
                connection.sendall(answer)


class Stage:
    """A world with a network and a Consul."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.consul = Consul(self.world)

    def node(self, name: str, number: int, service: Service) -> ConsulNode:
        (release,) = (release for release in consul_nodes.RELEASES if release.name == name)
        return ConsulNode(release, number, "rqlite", service, self.world, self.network)


READ_AS = {"8.39": b"Content-Type: application/json\r\n", "10.2": b"Content-Type: application/json; charset=utf-8\r\n"}


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_consul_requests_are_rqlites_to_the_byte(release: consul_nodes.Release) -> None:
    """As Consul's Go client sent them to a socket: api v1.12.0, v1.22.0, v1.26.1, v1.32.1 and v1.34.3."""
    assert release.read("rqlite") == (
        b"GET /v1/kv/rqlite/leader HTTP/1.1\r\nHost: rqdisco:8500\r\nUser-Agent: Go-http-client/1.1\r\n"
        + READ_AS.get(release.name, b"")
        + b"Accept-Encoding: gzip\r\n\r\n"
    )
    assert release.put("a b/ü", leader_value(PEER), "cas=0&dc=dc1", token="T") == (
        b"PUT /v1/kv/a%20b/%C3%BC/leader?cas=0&dc=dc1 HTTP/1.1\r\nHost: rqdisco:8500\r\n"
        b"User-Agent: Go-http-client/1.1\r\nContent-Length: 47\r\nContent-Type: application/octet-stream\r\n"
        b"X-Consul-Token: T\r\nAccept-Encoding: gzip\r\n\r\n" + VALUE
    )


def test_the_value_is_written_as_go_does() -> None:
    assert leader_value(PEER) == VALUE
    assert leader_value(Peer("<&>é", "h:1", "", NEW_DOORS)) == (
        rb'{"id":"\u003c\u0026\u003e' + "é".encode() + b'","api_addr":"http://h:1"}'
    )


@pytest.mark.parametrize("content", [b"[]", b"null", b"[null]"])
def test_an_answer_without_an_entry_names_no_leader(content: bytes) -> None:
    assert leader_in(content) is None


@pytest.mark.parametrize("value", [b"", b"x", b"[]", b'"s"'])
def test_a_value_that_is_no_object_is_an_error(value: bytes) -> None:
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


def test_a_claim_is_tried_even_if_the_read_failed_and_the_log_says_what_was_answered() -> None:
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


def test_a_value_that_cannot_be_read_keeps_a_node_asking_for_ever() -> None:
    stage = Stage()
    stage.consul.value = b"10.0.0.1:4001"
    with stage.consul.serve() as service:
        node = stage.node("8.0", 1, service)
        node.start()
        assert not stage.world.run(600, stage.network.is_formed)
        assert 100 <= stage.consul.kinds().count("claim") <= 200
        assert len(stage.consul.connections) == 1, "connections are kept"


@pytest.mark.parametrize(
    ("name", "doors", "seconds"), [("7.0", OLD_DOORS, 20), ("7.21", OLD_DOORS, 12), ("8.0", NEW_DOORS, 12)]
)
def test_joins_by_the_address_of_its_kind_five_times_and_asks_again(
    name: str, doors: frozenset[str], seconds: float
) -> None:
    stage = Stage()
    leader = Peer("9", "10.0.0.9:4001", "10.0.0.9:4002", doors)  # type: ignore[arg-type]
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
def test_a_leader_reports_at_once_and_again_and_again(release: consul_nodes.Release) -> None:
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
        assert stage.consul.kinds(since=2000) == ["report"], "it has a configuration and asks nobody"


@pytest.mark.parametrize("release", consul_nodes.RELEASES, ids=attrgetter("name"))
def test_a_claim_won_in_the_retry_loop_is_thrown_away(release: consul_nodes.Release) -> None:
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
def test_nodes_without_a_vote_claim_in_old_releases_only(name: str, claims: bool) -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node(name, 1, service)
        node.peer.votes = False
        node.start()
        stage.world.run(60)
        assert node.has_won == claims


def test_a_connection_that_was_closed_while_it_rested_is_replaced() -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node("10.2", 1, service)
        node.start()
        for count in (1, 2):
            assert stage.world.run(20, lambda count=count: stage.consul.kinds().count("report") == count)
            assert len(stage.consul.connections) == count
            stage.consul.connections[-1].shutdown(socket.SHUT_RDWR)
        assert node.log == []


def test_a_read_is_repeated_where_the_connection_broke_and_a_put_is_not() -> None:
    stage = Stage()
    with stage.consul.serve() as service:
        node = stage.node("10.2", 1, service)
        stage.consul.answers = [reply(404), reply(200, b"false"), b"", reply(404), b""]
        node.start()
        stage.world.run(6)
        assert stage.consul.kinds() == ["get", "claim", "get", "get", "claim"]
        assert len(stage.consul.connections) == 2
        assert [line.partition(":")[0] for line in node.log] == ["failed to initialize as Leader"]


def test_two_runs_with_one_seed_are_the_same_and_with_another_they_differ() -> None:
    def moments(seed: int) -> list[tuple[float, bytes]]:
        stage = Stage(seed)
        stage.consul.value = b"x"
        with stage.consul.serve() as service:
            for number in range(3):
                stage.node("8.0", number, service).start()
            stage.world.run(100)
            # Of what is asked at once the server may see any first.
            return sorted(stage.consul.asked)

    assert moments(1) == moments(1)
    assert moments(1) != moments(2)


def some_peers(network: Network, count: int, expect: int = 0) -> list[Peer]:
    """Running nodes."""
    peers = [Peer(f"n{number}", f"h{number}:1", f"h{number}:2", BOTH_DOORS, expect=expect) for number in range(count)]
    for peer in peers:
        network.add(peer)
        network.switch(peer, on=True)
    return peers


def test_a_cluster_has_a_leader_while_most_of_it_runs() -> None:
    world = World(1)
    network = Network(world)
    first, second, third = some_peers(network, 3)
    network.bootstrap([first])
    assert not network.join(second, "h0:2", "raft"), "nobody leads yet"
    assert world.run(2, lambda: leader_of(first) is first)
    assert network.join(second, "h0:2", "raft")
    assert network.join(third, "http://h1:1", "http"), "through a follower too"
    assert network.clusters == {"n0": ["n0", "n1", "n2"]}
    network.switch(first, on=False)
    assert leader_of(second) is None
    assert world.run(2, network.is_formed)
    assert leader_of(second) in (second, third)
    network.switch(second, on=False)
    assert not world.run(100, network.is_formed)
    network.switch(first, on=True)
    assert world.run(2, network.is_formed)


def test_doors_are_opened_by_addresses_of_their_kind_on_nodes_that_run_and_follow_a_leader() -> None:
    world = World(1)
    network = Network(world)
    joiner, leader = some_peers(network, 2)
    network.bootstrap([leader])
    world.run(2)
    leader.doors = NEW_DOORS
    for addr, door in (("h1:1", "http"), ("h1:1", "raft"), ("h0:2", "raft"), ("h7:2", "raft"), ("h1:2:3", "raft")):
        assert not network.join(joiner, addr, door)  # type: ignore[arg-type]
    network.switch(leader, on=False)
    assert not network.join(joiner, "h1:2", "raft")


def test_who_is_notified_by_as_many_as_it_expects_bootstraps_with_exactly_those() -> None:
    world = World(1)
    network = Network(world)
    first, second, third, fourth = some_peers(network, 4, expect=3)
    for _ in range(3):
        assert network.notify(second, "h0:2", "raft")
    network.notify(first, "h0:2", "raft")
    assert network.bootstrapped == []
    network.notify(fourth, "h0:2", "raft")
    assert [cluster.members for cluster in network.bootstrapped] == [[second, first, fourth]]
    for peer in (first, second, fourth):
        network.notify(peer, "h1:2", "raft")
    assert len(network.bootstrapped) == 1
    assert third.cluster is None
    network.switch(third, on=False)
    assert not network.notify(first, "h2:2", "raft")


AUTHORITATIVE, RECURSIVE, TRUNCATED = AA, RA, AA | TC


def answer_to(query: Message, flags: int = AUTHORITATIVE, rcode: int = 0, count: int = 2, target: str = "") -> bytes:
    """What a good server says, or with other flags, or less or more; only `six` has IPv6 addresses."""
    response = dns.message.make_response(query)
    response.use_edns(False)
    response.flags = response.flags & ~AA | flags
    response.set_rcode(Rcode(rcode))
    (asked,) = query.question
    has_ipv6 = asked.name.labels[0] == b"six"
    texts = {
        RdataType.AAAA: [f"fd00::{number}" for number in range(count * has_ipv6)],
        RdataType.A: [f"10.0.0.{number}" for number in range(count * (not has_ipv6))],
        RdataType.SRV: [f"{number % 2} 1 {number} {target or f'n{number}.good.example.'}" for number in range(count)],
    }.get(asked.rdtype)
    if texts:
        response.answer.append(dns.rrset.from_text(asked.name, 1, "IN", asked.rdtype, *texts))
    return response.to_wire(max_size=65535)


def forgeries_of(query: Message) -> list[bytes]:
    """What anybody could send who does not see the query, or does not understand it."""
    good = answer_to(query)
    other = dns.message.make_query("other.example.", query.question[0].rdtype, id=query.id)
    no_question = good[:4] + bytes(8)
    return [b"", good[:11], bytes([good[0] ^ 1]) + good[1:], query.to_wire(), answer_to(other), no_question]


def in_capitals(answer: bytes) -> bytes:
    return answer[:12] + answer[12:].replace(b"shouting", b"SHOUTING")


Manner = Callable[[Message, str, int], Sequence[bytes]]
# How a server may behave towards a query that comes by UDP or TCP and is so many times repeated.
MANNERS: dict[str, Manner] = {
    "good": lambda query, *_: [answer_to(query)],
    "shouting": lambda query, *_: [in_capitals(answer_to(query))],
    "forged": lambda query, *_: [*forgeries_of(query), answer_to(query)],
    "silent": lambda *_: [],
    "confused": lambda query, *_: forgeries_of(query),
    "gone": lambda query, *_: [answer_to(query, rcode=Rcode.NXDOMAIN, count=0)],
    "empty": lambda query, *_: [answer_to(query, count=0)],
    "half": lambda query, *_: [answer_to(query, rcode=3 * (query.question[0].rdtype == RdataType.AAAA))],
    "lame": lambda query, *_: [answer_to(query, 0, count=0)],
    "recursive": lambda query, *_: [answer_to(query, RECURSIVE, count=0)],
    "failing": lambda query, *_: [answer_to(query, rcode=Rcode.SERVFAIL, count=0)],
    "recovering": lambda query, _, turn: [answer_to(query, rcode=0 if turn else Rcode.SERVFAIL)],
    "refusing": lambda query, *_: [answer_to(query, rcode=Rcode.REFUSED, count=0)],
    "brief": lambda query, by, _: [answer_to(query, TRUNCATED, count=0) if by == "udp" else answer_to(query, count=99)],
    "curt": lambda query, by, _: [answer_to(query, TRUNCATED, count=1 if by == "tcp" else 0)],
    "mute": lambda query, by, _: [answer_to(query, TRUNCATED)] if by == "udp" else [],
    "mistaken": lambda query, by, _: [answer_to(query, TRUNCATED)] if by == "udp" else [forgeries_of(query)[2]],
    "huge": lambda query, *_: [answer_to(query, count=99)],
    "numeric": lambda query, *_: [answer_to(query, target="10.0.0.1.")],
    "partial": lambda query, *_: [answer_to(query, count=1, target="gone.example.")],
}


class NameServer:
    """Answers in the manner that the first label of a name, or the first after `_service._tcp`, says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    @contextmanager
    def serve(self, patience: float = 0.05) -> Iterator[Service]:
        """Answer meanwhile, over UDP and TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(listener.getsockname())
            with running(self._datagrams, datagrams), running(self._streams, listener):
                try:
                    yield Service(dns=listener.getsockname()[1], patience=patience)
                finally:
                    listener.shutdown(socket.SHUT_RDWR)
                    datagrams.sendto(b"", datagrams.getsockname())

    def _answers(self, content: bytes, by: str) -> Sequence[bytes]:
        turn = [question[2:] for _, question in self.asked].count(content[2:])
        self.asked.append((by, content))
        query = dns.message.from_wire(content)
        manner = next(label.decode() for label in query.question[0].name.labels if not label.startswith(b"_"))
        return MANNERS[manner if manner in MANNERS else "good"](query, by, turn)

    def _datagrams(self, datagrams: socket.socket) -> None:
        while True:
            content, client = datagrams.recvfrom(65536)
            if not content:
                return
            for answer in self._answers(content, "udp"):
                datagrams.sendto(answer, client)

    def _streams(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                for answer in self._answers(connection.recv(65536)[2:], "tcp"):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)


def outcome(world: World, begin: Callable[[], Coroutine[Any, Any, list[Any]]]) -> list[Any] | str:
    """What a look-up gives, in a fixed order, or what it raises."""
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
def test_addresses_are_resolved_as_by_go(manner: str, expected: list[str] | str, seconds: float, queries: int) -> None:
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
def test_services_are_resolved_as_by_go(manner: str, expected: list[tuple[str, int]] | str) -> None:
    server, world = NameServer(), World(1)
    with server.serve() as service:
        assert outcome(world, lambda: GoResolver(world, service).services("rqlite", f"{manner}.example")) == expected


class Rounds:
    """A world with a network, a name server, and nodes at 10.0.0.0, 10.0.0.1 and so on."""

    def __init__(self, service: Service) -> None:
        self.world = World(1)
        self.network = Network(self.world)
        self.service = service

    def peer(self, number: int, expect: int = 2) -> Peer:
        return Peer(f"n{number}", f"10.0.0.{number}:4001", f"10.0.0.{number}:4002", BOTH_DOORS, expect=expect)

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
def test_nodes_look_for_each_others_http_or_raft_addresses(
    server: NameServer, rounds: Rounds, release: dns_nodes.Release
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
        "how large an answer may be is told from Go 1.19"
    )
    wants = [rounds.world.result(node.look_up) == sorted(found) for _ in range(20)]
    assert all(wants) == (release.name in ("8.39", "10.2")), "before v8.36.11 in any order"


def test_old_releases_write_ipv6_addresses_that_cannot_be_joined(rounds: Rounds) -> None:
    for name, expected in (("8.0", "fd00::1:4002"), ("8.39", "[fd00::1]:4002")):
        node = rounds.node(name, rounds.peer(0), "six")
        assert expected in rounds.world.result(node.look_up)


def test_one_target_without_an_address_fails_the_whole_look_up(rounds: Rounds) -> None:
    node = rounds.node("10.2", rounds.peer(0), "partial", "dns-srv")
    assert outcome(rounds.world, node.look_up) == NO_HOST


@pytest.mark.parametrize(
    ("name", "fewest", "most", "seconds"),
    [("7.2", 3, 13, 60), ("7.10", 30, 61, 120), ("8.0", 30, 61, 120), ("10.2", 60, 121, 120)],
)
def test_a_node_looks_again_and_again_until_its_time_is_up_and_is_started_again(
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


def test_a_node_that_cannot_be_prepared_is_not_started_but_tried_again(rounds: Rounds) -> None:
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
def test_a_dead_address_keeps_those_behind_it_from_being_notified(rounds: Rounds, own: int, bootstraps: bool) -> None:
    node = rounds.node("10.2", rounds.peer(own, expect=1))
    node.start()
    assert rounds.world.run(119, rounds.network.is_formed) == bootstraps


def test_a_node_without_a_vote_notifies_nobody(rounds: Rounds) -> None:
    node = rounds.node("10.2", rounds.peer(0, expect=1))
    node.peer.votes = False
    node.start()
    rounds.world.run(119)
    assert node.log == []
    assert rounds.network.bootstrapped == []


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
