"""Clients behind a proxy that names them: the PROXY protocol, versions 1 and 2 (haproxy's
proxy-protocol.txt).

Twisted's endpoint for it is not used: its parser fails with a traceback on a malformed address,
rejects a header that arrives in two parts or is the short `PROXY UNKNOWN`, and adds a layer around
every connection.
"""

from __future__ import annotations

import ipaddress
import re
import struct

import msgspec
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from rqdisco.http.server.connection import RECEIVE_SECONDS, HTTPConnection
from rqdisco.http.server.site import Site
from rqdisco.limits.log_throttle import LogThrottle

_TEXT = b"PROXY "
_TEXT_BYTES = 107
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: .*)?|TCP([46]) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5}))", re.DOTALL)
_BINARY = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES = 16
# The addresses, and what else a proxy may send, such as TLS details.
_MAX_BYTES = 4096
_LOCAL, _PROXY = 0x20, 0x21
_LAYOUTS = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}


class BadHeader(Exception):
    """The connection does not begin with a header of the PROXY protocol."""


class Header(msgspec.Struct, frozen=True):
    """A header of `size` bytes: the client's IP address, and the one that it connected to.

    Both are None if the proxy connects on its own behalf, as in a health check, or does not know.
    """

    size: int
    source: str | None = None
    destination: str | None = None


def read_header(data: bytes) -> Header | None:
    """Parse the header at the start of a connection; None while it is incomplete. Raises
    BadHeader.
    """
    if data[:12] == _BINARY[: len(data)]:
        return _binary_header(data)
    if data[:6] == _TEXT[: len(data)]:
        return _text_header(data)
    raise BadHeader


def _text_header(data: bytes) -> Header | None:
    line, end, _ = data[:_TEXT_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= _TEXT_BYTES:
            raise BadHeader
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadHeader
    size = len(line) + len(end)
    if match[1] is None:
        return Header(size)
    parse = ipaddress.IPv4Address if match[1] == b"4" else ipaddress.IPv6Address
    try:
        hosts = [parse(text.decode("ascii")) for text in match.group(2, 3)]
    except ValueError:
        raise BadHeader from None
    ports = [int(text) for text in match.group(4, 5)]
    if max(ports) > 0xFFFF:
        raise BadHeader
    return Header(size, _shown(hosts[0]), _shown(hosts[1]))


def _binary_header(data: bytes) -> Header | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(_BINARY))
    if command not in (_LOCAL, _PROXY) or length > _MAX_BYTES:
        raise BadHeader
    size = _FIXED_BYTES + length
    if len(data) < size:
        return None
    layout = _LAYOUTS.get(family)
    if command == _LOCAL or layout is None:
        return Header(size)
    if length < struct.calcsize(layout):
        raise BadHeader
    source, destination, _, _ = struct.unpack_from(layout, data, _FIXED_BYTES)
    return Header(size, _shown(ipaddress.ip_address(source)), _shown(ipaddress.ip_address(destination)))


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the address as text; one of IPv4 that is written as IPv6 is one of IPv4."""
    return str(getattr(address, "ipv4_mapped", None) or address)


class ProxiedConnection(HTTPConnection):
    """A connection that begins with a PROXY header; without a valid one it is aborted. `behind`
    logs that.
    """

    def __init__(self, site: Site, behind: ProxyProtocolFactory) -> None:
        super().__init__(site)
        self._behind = behind
        # The start of the connection until the header is complete, then None.
        self._start: bytes | None = b""
        self._proxy: tuple[str | None, str | None] | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._proxy = self.client, self.local_host

    def _counted_host(self) -> None:
        """The client is not known before the header."""

    @property
    def proxy(self) -> tuple[str | None, str | None] | None:
        """The address of the proxy, and the daemon's address that it connected to."""
        return self._proxy

    def dataReceived(self, data: bytes) -> None:
        if self._start is None:
            super().dataReceived(data)
            return
        if not self._start:
            self._set_deadline(RECEIVE_SECONDS)
        self._start += data
        try:
            header = read_header(self._start)
        except BadHeader:
            self._behind.log_bad_header(self.transport.getPeer())
            self.abort()
            return
        if header is not None:
            rest, self._start = self._start[header.size :], None
            self._take_addresses(header)
            if rest:
                super().dataReceived(rest)

    def _take_addresses(self, header: Header) -> None:
        if header.destination is not None:
            self.local_host = header.destination
        self.knows_client = header.source is not None
        self.client = header.source or self.client
        self._set_deadline(self._site.idle_seconds)
        # Until now the connection counted for no client.
        self._site.release_slot(self)
        self._register(header.source)


class ProxyProtocolFactory(Factory):
    """Makes the connections of a site that only proxies connect to."""

    noisy = False
    _log = Logger()

    def __init__(self, site: Site) -> None:
        self._site = site
        self._throttle = LogThrottle(site.now)

    def startFactory(self) -> None:
        self._site.doStart()

    def stopFactory(self) -> None:
        self._site.doStop()

    def buildProtocol(self, addr: object) -> ProxiedConnection:
        return ProxiedConnection(self._site, self)

    def log_bad_header(self, peer: IAddress) -> None:
        """Log, once a minute, that a connection had no valid header: if it was the proxy's, no
        client gets through.
        """
        if self._throttle.is_due():
            self._log.warn("connection aborted: no valid PROXY header", peer=getattr(peer, "host", None))
