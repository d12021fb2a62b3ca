"""The double of rqlited behaves as rqlited is known to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from tests.support.rqlited import VERSIONS, Node, Outcome, RqliteNetwork, Version, nodes_in, run_all

pytestmark = pytest.mark.process

OLD, NEW = VERSIONS[0], VERSIONS[-1]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@contextmanager
def service(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A service that gives one canned answer to each connection, in turn; yields its port and what
    it received.
    """
    requests: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], requests
        thread.join()


def run(answer: bytes, network: RqliteNetwork | None = None) -> Outcome:
    """Return the outcome of a node that gets `answer`."""
    with service(answer) as (port, _):
        return Node(NEW, "a:4001", "id", lambda: port, network or RqliteNetwork()).run()


@pytest.mark.parametrize(
    ("version", "content_type"), [(OLD, b"application-type/json"), (NEW, b"application/json")], ids=["old", "new"]
)
def test_a_request_is_rqlites_to_the_byte(version: Version, content_type: bytes) -> None:
    assert version.request("localhost:4001", "b3da7185-725f-461c-b7a4-13f185bd5007", "rqdisco:4000") == (
        b"POST /b3da7185-725f-461c-b7a4-13f185bd5007 HTTP/1.1\r\nHost: rqdisco:4000\r\n"
        b"User-Agent: Go-http-client/1.1\r\nContent-Length: 25\r\nContent-Type: " + content_type + b"\r\n"
        b'Accept-Encoding: gzip\r\n\r\n{"addr":"localhost:4001"}'
    )


def test_a_request_escapes_like_go() -> None:
    request = OLD.request("a<b>&c", "I D", "h", "/")
    assert request.startswith(b"POST //I%20D HTTP/1.1\r\n")
    assert request.endswith(rb'{"addr":"a\u003cb\u003e\u0026c"}')


def test_a_request_is_sent_unchanged() -> None:
    with service(OK % (2, b"{}")) as (port, requests):
        Node(NEW, "a:4001", "id", lambda: port, RqliteNetwork()).run()
    assert requests == [NEW.request("a:4001", "id", f"127.0.0.1:{port}")]


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"nodes": []}', b'{"nodes": null}', b'{"NODES": ["a:4001"]}'])
def test_a_200_without_other_nodes_means_bootstrap(body: bytes) -> None:
    network = RqliteNetwork()
    assert run(OK % (len(body), body), network) == Outcome("leader")
    assert network.clusters == {"a:4001": ["a:4001"]}


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"nodes": [1]}', b'{"nodes": {}}', b'{"created_at": 5}'])
def test_any_other_body_ends_the_process(body: bytes) -> None:
    assert run(OK % (len(body), body)).kind == "exit 1"


def test_any_other_status_ends_the_process_and_its_reason_is_logged() -> None:
    outcome = run(b"HTTP/1.1 503 store unavailable\r\nContent-Length: 0\r\n\r\n")
    assert outcome == Outcome("exit 1", "unable to determine join addresses: 503 store unavailable")
    assert run(b"HTTP/1.1 204 No Content\r\n\r\n").kind == "exit 1"
    assert run(b"").kind == "exit 1"


def test_nodes_keep_their_order() -> None:
    assert nodes_in(b'{"nodes": ["b", "a", "c"], "disco_id": "x", "other": 5}') == ["b", "a", "c"]


def test_versions_differ_in_which_addresses_they_take_for_their_own() -> None:
    nodes = ["http://a:4001", "a:4001", "b:4001"]
    assert OLD.others("a:4001", nodes) == ["http://a:4001", "b:4001"]
    assert NEW.others("a:4001", nodes) == ["b:4001"]
    assert NEW.others("http://a:4001", nodes) == ["a:4001", "b:4001"]


def test_a_node_joins_the_first_address_that_has_a_leader() -> None:
    network = RqliteNetwork()
    network.bootstrap("c:4001")
    body = b'{"nodes": ["dead:4001", "http://c:4001", "a:4001"]}'
    assert run(OK % (len(body), body), network) == Outcome("joined")
    assert network.clusters == {"c:4001": ["c:4001", "a:4001"]}


def test_a_node_waits_for_the_one_that_will_lead() -> None:
    network = RqliteNetwork()
    bootstrap, both = b'{"nodes": ["a:4001"]}', b'{"nodes": ["a:4001", "b:4001"]}'
    with service(OK % (len(bootstrap), bootstrap)) as (first, _), service(OK % (len(both), both)) as (second, _):
        nodes = [Node(OLD, "b:4001", "id", lambda: second, network), Node(NEW, "a:4001", "id", lambda: first, network)]
        assert [outcome.kind for outcome in run_all(nodes)] == ["joined", "leader"]


def test_the_supervisor_restarts_a_node() -> None:
    refusal = b"HTTP/1.1 503 store unavailable\r\nContent-Length: 0\r\n\r\n"
    with service(refusal, b"", OK % (2, b"{}")) as (port, _):
        assert Node(NEW, "a:4001", "id", lambda: port, RqliteNetwork()).run_supervised() == Outcome("leader")
