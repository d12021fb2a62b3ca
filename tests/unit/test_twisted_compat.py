"""Behaviour of Twisted beyond its documented API that rqdisco needs: each test names what a new Twisted
has changed, and the helper to adapt.
"""

from __future__ import annotations

import inspect
import socket
from errno import ECONNRESET, EWOULDBLOCK
from socket import socketpair
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection as TCPConnection
from twisted.internet.tcp import Port, Server
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.unix import Port as UNIXPort
from twisted.protocols.policies import TimeoutMixin
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool

from rqdisco import twisted_compat


def source(of: Any) -> str:
    return inspect.getsource(of)


def test_reactors_take_the_time_from_their_attribute_seconds() -> None:
    why = "adapt use_clock: ReactorBase no longer takes the time of callLater from self.seconds"
    assert "self.seconds" in source(ReactorBase.callLater), why
    assert "self.seconds" in source(ReactorBase.runUntilCurrent), why
    reactor: Any = object.__new__(ReactorBase)
    twisted_compat.use_clock(reactor, lambda: 7.0)
    assert reactor.seconds() == 7.0, why


class _Reader(FileDescriptor):
    """One end of a pair of sockets, which fails if it `fails` to say goodbye."""

    def __init__(self, reactor: Any, *, fails: bool) -> None:
        super().__init__(reactor)
        self.end, self.other = socketpair()
        self.reads = 0
        self._fails = fails
        self.other.send(b"x")
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.end.fileno()

    def doRead(self) -> Exception | None:
        self.reads += 1
        self.end.recv(1)
        return ConnectionDone() if self._fails else None

    def readConnectionLost(self, reason: Failure) -> None:
        raise ValueError

    def logPrefix(self) -> str:
        raise AssertionError("a log context was made")

    def close(self) -> None:
        self.reactor.removeReader(self)
        self.end.close()
        self.other.close()


def test_an_epoll_reactor_calls_sockets_without_a_log_context(logged_errors: list[Any]) -> None:
    why = "adapt poll_without_context: reactors poll, or EPollReactor calls sockets, in another way"
    assert "self.doIteration(" in source(ReactorBase.mainLoop), why
    assert "log.callWithLogger(selectable, _drdw, selectable, fd, event)" in source(EPollReactor.doPoll), why
    reactor: Any = EPollReactor()
    twisted_compat.poll_without_context(reactor)
    readers = [_Reader(reactor, fails=fails) for fails in (True, False)]
    try:
        reactor.doIteration(0)
        assert [reader.reads for reader in readers] == [1, 1], why
        assert [str(event["log_failure"].type) for event in logged_errors] == [str(ValueError)], why
    finally:
        logged_errors.clear()
        for reader in readers:
            reader.close()
        for internal in list(reactor._internalReaders):
            reactor.removeReader(internal)
            internal.connectionLost(Failure(ConnectionDone()))
        reactor._poller.close()


def test_timeouts_are_set_with_the_attribute_call_later() -> None:
    class Silent(Protocol, TimeoutMixin):
        pass

    clock = Clock()
    protocol = twisted_compat.use_timer(Silent(), clock)
    protocol.setTimeout(5)
    assert len(clock.getDelayedCalls()) == 1, "adapt use_timer: TimeoutMixin no longer calls self.callLater"


class _Socket:
    def __init__(self) -> None:
        self.accepts = 0

    def accept(self) -> Any:
        self.accepts += 1
        raise BlockingIOError(11, "nothing to accept")


def test_ports_accept_number_accepts_connections_in_do_read() -> None:
    why = "adapt set_accept_limit: tcp.Port.doRead no longer accepts self.numberAccepts connections"
    assert issubclass(UNIXPort, Port), why
    text = source(Port.doRead)
    assert "numAccepts = self.numberAccepts" in text, why
    assert "range(numAccepts)" in text, why
    port: Any = Port(0, Factory(), reactor=MemoryReactorClock())
    assert "self.numberAccepts = " in source(Port.startListening), why
    twisted_compat.set_accept_limit(port, 25)
    port.numberAccepts = 400
    port.socket = _Socket()
    port.doRead()
    assert port.socket.accepts == 1, why


def test_the_factory_of_pooled_connections_can_be_silenced() -> None:
    pool = HTTPConnectionPool(MemoryReactorClock())
    why = "adapt silence_client_connections: HTTPConnectionPool no longer makes connections with self._factory"
    assert hasattr(pool, "_factory"), why
    assert "self._factory" in source(HTTPConnectionPool._newConnection), why
    twisted_compat.silence_client_connections(pool)
    assert pool._factory.noisy is False, why


def test_transports_have_the_attribute_disconnecting() -> None:
    for transport in (Server, TLSMemoryBIOProtocol, StringTransport):
        assert hasattr(transport, "disconnecting"), f"adapt is_disconnecting: {transport.__name__} has it no longer"


class _ShortSocket:
    """A socket that takes a few bytes at a time, or none."""

    def __init__(self, *takes: int | OSError) -> None:
        self._takes = list(takes)
        self.sent = b""

    def send(self, data: memoryview) -> int:
        take = self._takes.pop(0)
        if isinstance(take, OSError):
            raise take
        self.sent += bytes(data[:take])
        return min(take, len(data))

    def setblocking(self, _: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        return -1


@pytest.mark.parametrize(
    ("takes", "sent", "buffered"),
    [
        ((99,), b"abcdef", b""),
        ((4,), b"abcd", b"ef"),
        ((BlockingIOError(EWOULDBLOCK, "full"),), b"", b"abcdef"),
        ((ConnectionResetError(ECONNRESET, "lost"),), b"", b"abcdef"),
    ],
)
def test_a_socket_without_anything_to_write_is_written_to_at_once(
    takes: tuple[int | OSError, ...], sent: bytes, buffered: bytes
) -> None:
    socket: Any = _ShortSocket(*takes)
    transport: Any = TCPConnection(socket, Protocol(), MemoryReactorClock())
    transport.connected = True
    why = "adapt write_at_once: FileDescriptor buffers, or Connection.writeSomeData writes, in another way"
    twisted_compat.write_at_once(transport, b"abcdef")
    assert transport.socket.sent == sent, why
    assert b"".join(transport._tempDataBuffer) == buffered, why
    if buffered:
        twisted_compat.write_at_once(transport, b"gh")
        assert (transport.socket.sent, b"".join(transport._tempDataBuffer)) == (sent, buffered + b"gh"), why


def test_a_connection_is_reset_if_its_client_is_gone_and_not_if_it_has_closed_its_end() -> None:
    here, there = socket.socketpair()
    with here, there:
        connection: Any = TCPConnection(here, Protocol(), MemoryReactorClock())
        connection.connected = True
        why = "adapt is_reset: tcp.Connection.getHandle no longer returns the socket"
        assert connection.getHandle() is here, why
        assert not twisted_compat.is_reset(connection)
        there.shutdown(socket.SHUT_WR)
        assert not twisted_compat.is_reset(connection)
        there.close()
        assert twisted_compat.is_reset(connection)
    assert not twisted_compat.is_reset(StringTransport())
