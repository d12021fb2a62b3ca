"""Listen on real ports of the loopback interface with the reactor that runs the tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort


def listen_tcp(factory: Any, backlog: int = 50) -> Any:
    """Listen on a free port of 127.0.0.1; return Twisted's own port object."""
    from twisted.internet import reactor

    return reactor.listenTCP(0, factory, backlog=backlog, interface="127.0.0.1")


def port_number(port: IListeningPort) -> int:
    """Return the number of a TCP or UDP port."""
    address = port.getHost()
    assert isinstance(address, IPv4Address | IPv6Address)
    return address.port


async def close(port: IListeningPort) -> None:
    """Stop listening."""
    await maybeDeferred(port.stopListening)
