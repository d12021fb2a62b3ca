"""Sockets in memory for the DNS listener: ports that record what is sent, and clients that read as
slowly as they like.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import EWOULDBLOCK
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

CLIENT = ("198.51.100.7", 5353)


class UDPPort:
    """A port that records what is sent, or cannot send for the reason that `failure` gives."""

    def __init__(self, protocol: Any, address: Any) -> None:
        self.protocol = protocol
        self.address = address
        self.sent: list[tuple[bytes, Any]] = []
        self.failure: Callable[[], Exception] | None = None
        self.maxThroughput = 256 * 1024
        protocol.makeConnection(self)

    def write(self, packet: bytes, addr: Any) -> None:
        if self.failure is not None:
            raise self.failure()
        self.sent.append((packet, addr))

    def getHost(self) -> Any:
        return self.address

    def stopListening(self) -> None:
        self.protocol.doStop()


class Reactor(MemoryReactorClock):
    """Twisted's reactor for tests, with UDP."""

    def __init__(self) -> None:
        super().__init__()
        self.udp_ports: list[UDPPort] = []

    def turn(self) -> None:
        """Run what is due now, but not what that schedules in turn, as the real reactor does."""
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> UDPPort:
        kind = IPv6Address if ":" in interface else IPv4Address
        self.udp_ports.append(UDPPort(protocol, kind("UDP", interface, port)))
        return self.udp_ports[-1]


class Line:
    """The client's end of a connection, and a socket for Twisted's own transport at the other.

    `room` is how many bytes the client's side accepts before it is read from, any number by
    default.
    """

    def __init__(self, reactor: Reactor, factory: Any, host: str = CLIENT[0]) -> None:
        self._reactor = reactor
        self._arriving = b""
        self._is_shut = False
        self.arrived = b""
        self.room: int | None = None
        self.is_closed = False
        protocol = factory.buildProtocol(IPv4Address("TCP", host, CLIENT[1]))
        socket: Any = self
        self.transport = Connection(socket, protocol, reactor)
        self.transport.connected = 1
        self.transport.startReading()
        protocol.makeConnection(self.transport)

    def send(self, data: bytes, *_: Any) -> int:
        """Called by the daemon's transport."""
        taken = data if self.room is None else data[: self.room]
        if data and not taken:
            raise OSError(EWOULDBLOCK, "full")
        self.room = None if self.room is None else self.room - len(taken)
        self.arrived += bytes(taken)
        return len(taken)

    def recv(self, size: int) -> bytes:
        if not self._arriving and not self._is_shut:
            raise OSError(EWOULDBLOCK, "nothing")
        data, self._arriving = self._arriving[:size], self._arriving[size:]
        return data

    def fileno(self) -> int:
        return 0

    def setblocking(self, flag: bool) -> None:
        pass

    def setsockopt(self, *_: Any) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def write(self, *messages: bytes) -> None:
        """Send messages, each with its length, and let the daemon do everything it does without
        time passing.
        """
        self.write_raw(b"".join(struct.pack("!H", len(message)) + message for message in messages))

    def write_raw(self, data: bytes) -> None:
        self.put(data)
        self.run()

    def put(self, data: bytes) -> None:
        """Deliver bytes that the daemon does not read yet."""
        self._arriving += data

    def lose(self) -> None:
        """Break the connection."""
        self.transport.connectionLost(Failure(CONNECTION_LOST))

    def shut(self) -> None:
        """Half-close the connection, while still reading."""
        self._is_shut = True
        self.run()

    @property
    def is_read(self) -> bool:
        """Report whether the daemon would read more."""
        return self.transport in self._reactor.getReaders()

    @property
    def is_written_to(self) -> bool:
        """Report whether the daemon has something to send."""
        return self.transport in self._reactor.getWriters()

    @property
    def unread(self) -> int:
        """Return the number of bytes that the daemon has not read."""
        return len(self._arriving)

    @property
    def buffered(self) -> int:
        """Return the number of bytes that the daemon buffers for the client."""
        return len(self.transport.dataBuffer) + self.transport._tempDataLen

    def run(self) -> None:
        while self.turn():
            pass

    def turn(self) -> bool:
        """Run one turn of the reactor; return False if nothing happened."""
        before = len(self._arriving), len(self.arrived), self.is_closed
        self._reactor.turn()
        is_writing = self.is_written_to
        if self.is_read and (self._arriving or self._is_shut) and self.transport.doRead() is not None:
            self._at_end()
        if not self.is_closed and is_writing:
            why = self.transport.doWrite()
            if why is not None:
                self.transport.connectionLost(Failure(why))
        due = any(call.getTime() <= self._reactor.seconds() for call in self._reactor.getDelayedCalls())
        return (
            due
            or is_writing != self.is_written_to
            or before != (len(self._arriving), len(self.arrived), self.is_closed)
        )

    def messages(self) -> list[bytes]:
        """Return the messages that have arrived since the last call, without an incomplete one at
        the end.
        """
        found = []
        while len(self.arrived) >= 2:
            (size,) = struct.unpack_from("!H", self.arrived)
            if len(self.arrived) < 2 + size:
                break
            found.append(self.arrived[2 : 2 + size])
            self.arrived = self.arrived[2 + size :]
        return found

    def _at_end(self) -> None:
        self.transport.stopReading()
        if IHalfCloseableProtocol.providedBy(self.transport.protocol):
            self.transport.readConnectionLost(Failure(CONNECTION_DONE))
        else:
            self.transport.connectionLost(Failure(CONNECTION_DONE))
