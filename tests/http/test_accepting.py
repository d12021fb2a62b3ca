"""The number of connections that a real port accepts at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol

from rqdisco.limits.accepting import accept_few, accept_waiting
from tests.support.listening import listen_tcp


class Accepted(Factory):
    """Records accepted connections."""

    noisy = False

    def __init__(self) -> None:
        self.connections: list[Any] = []

    def buildProtocol(self, addr: object) -> Protocol:
        self.connections.append(Protocol())
        protocol: Protocol = self.connections[-1]
        return protocol


@pytest.fixture
def accepted() -> Accepted:
    return Accepted()


@pytest.fixture
def port(accepted: Accepted) -> Iterator[Any]:
    """A port with sixty connections, none accepted yet."""
    made = listen_tcp(accepted, backlog=100)
    made.stopReading()
    clients = [socket.create_connection(("127.0.0.1", made.getHost().port)) for _ in range(60)]
    yield made
    for client in clients:
        client.close()
    for connection in accepted.connections:
        connection.transport.abortConnection()
    pytest_twisted.blockon(made.stopListening())


def test_a_few_waiting_connections_are_accepted_per_reactor_turn(accepted: Accepted, port: Any) -> None:
    accept_few(port)
    counts = []
    for _ in range(3):
        port.numberAccepts = 1000
        port.doRead()
        counts.append(len(accepted.connections))
    assert counts == [25, 50, 60]


def test_all_waiting_connections_are_accepted_on_request(accepted: Accepted, port: Any) -> None:
    accept_few(port)
    port.numberAccepts = 1
    accept_waiting(port)
    assert len(accepted.connections) == 60
