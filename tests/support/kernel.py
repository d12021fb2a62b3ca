"""A socket between a client and a server in memory: each end may stop reading, close or break."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.http.server.site import Site

# What one read of a socket returns at most.
MOST_READ = 1 << 16


class Kernel:
    """A socket between a client and a connection of the server, as Twisted's transports show it."""

    def __init__(self, site: Site, clock: Clock, host: str) -> None:
        self._clock = clock
        self._peer = IPv4Address("TCP", host, 40000)
        # Sent by the client and not read; a client that has closed its end sends nothing more.
        self.unread = b""
        self.is_ended = self._is_end_read = False
        # Read by the client, and what it has not read.
        self.received = self._unsent = b""
        self.is_slow = self._is_producer_paused = False
        self.is_reading = True
        self.disconnecting = self.is_lost = self.is_aborted = False
        self._producer: Any = None
        self._reads = False
        self.protocol: Any = site.buildProtocol(self._peer)
        if self.protocol is None:
            self.is_lost = True
        else:
            self.protocol.makeConnection(self)

    # What the connection calls.

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.168.1.1", 4000)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        if self.is_lost or self.is_aborted:
            return
        if not self.is_slow:
            self.received += data
            return
        self._unsent += data
        if self._producer is not None and not self._is_producer_paused:
            self._is_producer_paused = True
            self._producer.pauseProducing()

    def loseConnection(self) -> None:  # noqa: N802, Twisted's
        self.disconnecting = True
        self._close_if_sent()

    def abortConnection(self) -> None:
        if not (self.is_lost or self.is_aborted):
            self.disconnecting = self.is_aborted = True
            self._clock.callLater(0, self.lose, ConnectionLost())

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        assert not self.disconnecting
        self.is_reading = True
        self.read_soon()

    # What the client does.

    def send(self, data: bytes) -> None:
        self.unread += data
        self.read_soon()

    def end(self) -> None:
        self.is_ended = True
        self.read_soon()

    def lose(self, why: Exception) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connectionLost(Failure(why))

    def read_all(self) -> None:
        """The client reads again."""
        self.is_slow = False
        self.received, self._unsent = self.received + self._unsent, b""
        if self._is_producer_paused and not (self.is_lost or self.is_aborted):
            self._is_producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()
        if self.disconnecting:
            self._close_if_sent()

    def read_soon(self) -> None:
        if not self._reads:
            self._reads = True
            self._clock.callLater(0, self._read)

    def _read(self) -> None:
        self._reads = False
        if self.is_lost or self.is_aborted or not self.is_reading:
            return
        if self.unread:
            data, self.unread = self.unread[:MOST_READ], self.unread[MOST_READ:]
            self.protocol.dataReceived(data)
            self.read_soon()
        elif self.is_ended and not self._is_end_read:
            self._is_end_read = True
            self.protocol.readConnectionLost()

    def _close_if_sent(self) -> None:
        if not self._unsent and not self.is_aborted:
            self._clock.callLater(0, self.lose, ConnectionDone())
