"""The floor: a server that parses requests with llhttp and gives each the same answer, on Twisted.

`python floor.py FILE` answers with the bytes in FILE. No server on Twisted can cost less.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from httptools import HttpRequestParser
from twisted.internet import epollreactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IReactorTCP, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory


class Floor(Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._target, self._body = b"", b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = HttpRequestParser(self)

    def connectionMade(self) -> None:
        assert ITCPTransport.providedBy(self.transport)
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target, self._body, self._headers = b"", b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        """Answer; the parser calls this at the end of each request."""
        assert self.transport is not None
        self.transport.write(self._answer)


class FloorFactory(ServerFactory):
    """Gives every connection the same answer."""

    noisy = False

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def buildProtocol(self, addr: IAddress | None) -> Floor:
        return Floor(self._answer)


def main(file: str) -> None:
    """Serve until killed; one line of JSON tells the address."""
    epollreactor.install()
    from twisted.internet import reactor  # noqa: PLC0415, it exists once it is installed

    listener = IReactorTCP(reactor).listenTCP(0, FloorFactory(Path(file).read_bytes()), interface="127.0.0.1")
    address = listener.getHost()
    assert isinstance(address, IPv4Address)
    print(json.dumps({"event": "listening", "port": address.port}, separators=(",", ":")), flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
