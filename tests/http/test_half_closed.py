"""Clients that close their end of a connection while they wait for answers."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.support.connections import CREATE_REQUEST, Server, is_bad_request, request
from tests.support.daemon import create_id, register
from tests.support.etcd.daemon import EtcdDaemon


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_client_that_half_closes_gets_the_delayed_answer_to_a_bad_request(server: Server) -> None:
    for _ in range(30):
        connection = server.connect()
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
    connection.protocol.readConnectionLost()
    assert not connection.closed
    server.wait(2)
    assert is_bad_request(connection.take())
    assert connection.closed


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_that_sends_all_its_requests_and_half_closes_gets_all_answers(server: Server, at_once: bool) -> None:
    connection = server.connect()
    server.daemon.threads.hold = not at_once
    connection.protocol.dataReceived(CREATE_REQUEST + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
    connection.protocol.readConnectionLost()
    server.daemon.threads.release_all()
    connection.turn()
    received = connection.take()
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(b"Connection: close") == 1
    assert connection.closed
    server.daemon.deadlines.stop()


def registration(discovery_id: str, addr: str) -> bytes:
    return request("POST", f"/{discovery_id}", {"addr": addr})


def test_a_client_that_half_closes_while_it_waits_gets_its_answer_however_long_it_takes(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(CREATE_REQUEST)
    connection.protocol.readConnectionLost()
    server.wait(20)
    assert connection.transport.value() == b"HTTP/1.1 ", "a client that is gone resets the connection at this"
    server.daemon.threads.release_all()
    received = connection.take()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert connection.closed
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("is_durable_first", [True, False])
def test_a_node_that_is_told_to_bootstrap_may_have_half_closed(server: Server, is_durable_first: bool) -> None:
    discovery_id = create_id(server.daemon)
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(registration(discovery_id, "10.0.0.1:4001"))
    connection.protocol.readConnectionLost()
    if is_durable_first:
        server.daemon.threads.release_all()
        assert connection.transport.value() == b"HTTP/1.1 "
    server.clock.pump([0.1, 0.3])
    server.daemon.threads.release_all()
    assert connection.take().endswith(b'"nodes": ["10.0.0.1:4001"]}')
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("is_durable_first", [True, False])
def test_a_grant_to_a_client_that_half_closed_and_turns_out_to_be_gone_is_revoked(
    server: Server, is_durable_first: bool
) -> None:
    discovery_id = create_id(server.daemon)
    first, second = server.connect(), server.connect()
    server.daemon.threads.hold = True
    first.protocol.dataReceived(registration(discovery_id, "10.0.0.1:4001"))
    first.protocol.readConnectionLost()
    second.protocol.dataReceived(registration(discovery_id, "10.0.0.2:4001"))
    if is_durable_first:
        server.daemon.threads.release_all()
    first.hang_up()
    server.daemon.threads.release_all()
    assert second.take().endswith(b'"nodes": ["10.0.0.2:4001"]}')
    assert first.take() == b"HTTP/1.1 "
    server.daemon.deadlines.stop()


def test_a_node_that_is_listed_for_a_client_that_half_closed_gets_its_list_at_once(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    register(server.daemon, discovery_id, "10.0.0.1:4001")
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(registration(discovery_id, "10.0.0.2:4001"))
    connection.protocol.readConnectionLost()
    server.daemon.threads.release_all()
    assert connection.take().endswith(b'"nodes": ["10.0.0.1:4001", "10.0.0.2:4001"]}')
    server.daemon.deadlines.stop()


def test_a_grant_to_a_client_that_half_closed_before_its_request_was_started_may_be_revoked(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    first, second = server.connect(), server.connect()
    lookup = request("GET", f"/{discovery_id}")
    first.protocol.dataReceived(lookup + registration(discovery_id, "10.0.0.1:4001"))
    first.protocol.readConnectionLost()
    server.daemon.threads.hold = True
    first.turn()
    server.daemon.threads.release_all()
    assert first.take().count(b"HTTP/1.1 200") == 1, "whether the client is there is not known yet"
    first.hang_up()
    second.send(registration(discovery_id, "10.0.0.2:4001"))
    server.daemon.threads.release_all()
    assert second.take().endswith(b'"nodes": ["10.0.0.2:4001"]}')
    server.daemon.deadlines.stop()


def test_a_grant_whose_client_half_closed_when_its_time_was_up_is_revoked() -> None:
    clock = Clock()
    server = Server(clock=clock)
    server.daemon = daemon = EtcdDaemon(clock=clock)
    server.site.application = daemon.apis.public()
    discovery_id = create_id(daemon)
    first, second = server.connect(), server.connect()
    daemon.transport.hold = True
    first.send(registration(discovery_id, "10.0.0.1:4001"))
    clock.pump([0.1] * 49)
    first.protocol.readConnectionLost()
    daemon.transport.hold = False
    daemon.transport.release_all()
    clock.pump([0.1] * 10)
    assert b" 503 " in first.take().splitlines()[0]
    assert second.send(registration(discovery_id, "10.0.0.2:4001")).endswith(b'"nodes": ["10.0.0.2:4001"]}')
