"""The proxy does to connections what a network does."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from time import monotonic

import pytest

from tests.support.proxy import CUT, DEAF, HALF_OPEN, MUTE, Proxy, slow, truncating

PATIENCE = 10.0


class Echo:
    """Sends back what it receives, and records it."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.received = b""
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(4096):
                self.received += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy() as proxy:
        proxy.target = echo.port
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def is_unresponsive(client: socket.socket, seconds: float = 0.05) -> bool:
    return not select.select([client], [], [], seconds)[0]


def ends(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def test_bytes_arrive_in_both_directions(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_a_cut_ends_all_connections_and_refuses_new_ones_until_it_is_healed(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.recv(100)
        proxy.spoil(CUT)
        assert ends(client)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


@pytest.mark.parametrize("late", [False, True])
def test_a_half_open_connection_swallows_everything(proxy: Proxy, echo: Echo, late: bool) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.recv(100)
        proxy.spoil(HALF_OPEN)
        client.sendall(b" world")
        assert is_unresponsive(client)
        assert echo.received == b"hello"
        proxy.heal(late=late)
        if late:
            assert client.recv(100) == b" world"
        else:
            assert ends(client)


def test_one_direction_can_be_swallowed(proxy: Proxy, echo: Echo) -> None:
    proxy.spoil(MUTE)
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert is_unresponsive(client)
    assert echo.received == b"hello"
    proxy.spoil(DEAF)
    with connect(proxy) as client:
        client.sendall(b" world")
        assert is_unresponsive(client)
    assert echo.received == b"hello"


def test_a_delay_keeps_the_order(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"0")
        client.recv(100)
        proxy.spoil(slow(0.5))
        begun = monotonic()
        client.sendall(b"a")
        assert is_unresponsive(client, 0.02)
        proxy.heal()
        client.sendall(b"b")
        got = b""
        while len(got) < 2:
            got += client.recv(100)
        assert (got, monotonic() - begun >= 0.5) == (b"ab", True)


def test_a_reply_can_end_after_a_number_of_bytes(proxy: Proxy) -> None:
    proxy.spoil(truncating(3))
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hel"
        assert ends(client)


def test_a_strike_happens_once_before_a_certain_request_or_reply_is_forwarded(proxy: Proxy, echo: Echo) -> None:
    at_request = proxy.strike(CUT, b"second")
    with connect(proxy) as client:
        client.sendall(b"first")
        assert client.recv(100) == b"first"
        assert not at_request.is_set()
        client.sendall(b"second")
        assert ends(client)
    assert at_request.wait(PATIENCE)
    assert echo.received == b"first"
    proxy.heal()
    seen: list[bytes] = []
    at_reply = proxy.strike(lambda: seen.append(echo.received), b"second", "replies")
    with connect(proxy) as client:
        client.sendall(b"second")
        assert client.recv(100) == b"second"
    assert at_reply.is_set()
    assert seen == [b"firstsecond"]
