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
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from rqdisco.http.server.site import RECEIVE_SECONDS, BoundedChannel, BoundedSite
from rqdisco.limits.log_throttle import LogThrottle

_TEXT = b"PROXY "
_TEXT_BYTES = 107
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: .*)?|TCP([46]) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5}))", re.DOTALL)
_BINARY = b"\r\n\r\n\0\r\nQUIT\n"
_BEGINNING = 16
# The addresses, and what else a proxy may send, such as TLS details.
_MAX_BYTES = 4096
_LOCAL, _PROXY = 0x20, 0x21
_LAYOUTS = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}


class BadHeader(Exception):
    """The connection does not begin with a header of the PROXY protocol."""


class Header(msgspec.Struct, frozen=True):
    """A header of `size` bytes: the client's address, and the address that it connected to.

    Both are None if the proxy connects on its own behalf, as in a health check, or does not know.
    """

    size: int
    source: IAddress | None = None
    destination: IAddress | None = None


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
    return Header(size, _address(hosts[0], ports[0]), _address(hosts[1], ports[1]))


def _binary_header(data: bytes) -> Header | None:
    if len(data) < _BEGINNING:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(_BINARY))
    if command not in (_LOCAL, _PROXY) or length > _MAX_BYTES:
        raise BadHeader
    size = _BEGINNING + length
    if len(data) < size:
        return None
    layout = _LAYOUTS.get(family)
    if command == _LOCAL or layout is None:
        return Header(size)
    if length < struct.calcsize(layout):
        raise BadHeader
    source, destination, source_port, destination_port = struct.unpack_from(layout, data, _BEGINNING)
    return Header(
        size,
        _address(ipaddress.ip_address(source), source_port),
        _address(ipaddress.ip_address(destination), destination_port),
    )


def _address(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> IAddress:
    return IPv4Address("TCP", str(host), port) if host.version == 4 else IPv6Address("TCP", str(host), port)


class ProxiedChannel(BoundedChannel):
    """A connection that begins with a PROXY header; without a valid one it is aborted."""

    # The start of the connection until the header is complete, then None.
    _start: bytes | None = b""
    _peer: IAddress | None = None
    behind: BehindProxy

    @property
    def proxy(self) -> tuple[IAddress, IAddress]:
        """The address of the proxy, and the daemon's address that it connected to."""
        return self.transport.getPeer(), self.transport.getHost()

    @property
    def names_client(self) -> bool:
        """Report whether the proxy named the client."""
        return self._peer is not None

    def getPeer(self) -> IAddress:
        return self.transport.getPeer() if self._peer is None else self._peer

    def dataReceived(self, data: bytes) -> None:
        if self._start is None:
            super().dataReceived(data)
            return
        if not self._start:
            self._expect(RECEIVE_SECONDS)
        self._start += data
        try:
            header = read_header(self._start)
        except BadHeader:
            self.behind.log_bad_header(self.transport.getPeer())
            self.transport.abortConnection()
            return
        if header is not None:
            rest, self._start = self._start[header.size :], None
            self._set_addresses(header)
            # Until now the connection counted for no client.
            self.site.limiter.leave(self)
            self._enter()
            if rest:
                super().dataReceived(rest)

    def _client_host(self) -> str | None:
        return getattr(self._peer, "host", None)

    def _set_addresses(self, header: Header) -> None:
        self._peer = header.source
        if header.destination is not None:
            self._host = header.destination
        self._start_idle()


class BehindProxy(Factory):
    """Makes the connections of a site that only proxies connect to."""

    noisy = False
    _log = Logger()

    def __init__(self, site: BoundedSite) -> None:
        self._site = site
        self._throttle = LogThrottle(site.now)

    def startFactory(self) -> None:
        self._site.doStart()

    def stopFactory(self) -> None:
        self._site.doStop()

    def buildProtocol(self, addr: object) -> ProxiedChannel:
        channel = self._site.prepared(ProxiedChannel())
        channel.behind = self
        return channel

    def log_bad_header(self, peer: IAddress) -> None:
        """Log, once a minute, that a connection had no valid header: if it was the proxy's, no
        client gets through.
        """
        if self._throttle.is_due():
            self._log.warn("connection aborted: no valid PROXY header", peer=getattr(peer, "host", None))
