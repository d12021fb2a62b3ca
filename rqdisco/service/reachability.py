"""The machines that can reach a listener: known before it is opened, where its description says it,
and again from its socket.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory

from rqdisco.core.errors import UnprotectedListener
from rqdisco.security.tls import TLSEndpoint, parse_description

# Kinds of endpoints that are as reachable as their sockets.
_PLAIN = re.compile(r"(?:(?:ssl|tls):)?(?:tcp6?|unix|systemd|\d+)(?::|\Z)")


def check_protected(descriptions: Iterable[str]) -> None:
    """Raise UnprotectedListener if other machines will reach one of these endpoints, unless its
    clients need certificates. Nothing is opened. A description that is invalid raises anything.
    """
    for description in descriptions:
        if not _may_listen_locally(description):
            raise unprotected(description)


def check_endpoint(description: str) -> None:
    """Raise an error of any kind if this is no description of an endpoint. Nothing is opened."""
    tls = parse_description(description)
    serverFromString(_RecordingReactor(), description if tls is None else tls.inner)


def unprotected(description: str) -> UnprotectedListener:
    """Return the error for an endpoint that other machines reach."""
    return UnprotectedListener(
        f"{description}: other machines can connect and no token is required; set --tokens FILE or --open"
    )


def needs_certificates(endpoint: IStreamServerEndpoint) -> bool:
    """Report whether only clients with a certificate can connect."""
    return isinstance(endpoint, TLSEndpoint) and endpoint.is_mutual


def listens_locally(description: str, address: object) -> bool:
    """Report whether only this machine can reach `address`.

    Not for endpoints behind a proxy, which others reach, nor for kinds that a Twisted plugin adds,
    of which nothing is known.
    """
    if _PLAIN.match(description) is None:
        return False
    if isinstance(address, UNIXAddress):
        return True
    try:
        ip = ipaddress.ip_address(getattr(address, "host", "").partition("%")[0])
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _may_listen_locally(description: str) -> bool:
    """As `listens_locally`, before the endpoint is opened; True if only its socket will tell, or
    if clients need certificates.
    """
    tls = parse_description(description)
    if tls is not None and tls.files.authorities is not None:
        return True
    if _PLAIN.match(description) is None:
        return False
    addresses = _expected_addresses(description if tls is None else tls.inner)
    return all(listens_locally(description, address) for address in addresses)


def _expected_addresses(description: str) -> list[object]:
    """Return the addresses that a plain endpoint will listen on, none if they are not known."""
    reactor = _RecordingReactor()
    endpoint = serverFromString(reactor, description)
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        return _address_of(endpoint.fileno)
    listening: Deferred[Any] = endpoint.listen(Factory())
    # It fails, since nothing listens.
    listening.addErrback(lambda failure: None)
    return [address for host in reactor.hosts for address in _resolve(host)]


def _address_of(fileno: int) -> list[object]:
    """Return the address that an inherited socket is bound to; a path has none."""
    with socket.socket(fileno=os.dup(fileno)) as inherited:
        name = inherited.getsockname()
    return [IPv4Address("TCP", name[0], name[1])] if isinstance(name, tuple) else []


def _resolve(host: str) -> list[object]:
    """Return the addresses of a host name or IP address; none if the name is unknown."""
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104, what "" means
    except OSError:
        return []
    return [IPv4Address("TCP", str(address[0]), 0) for *_, address in found]


class _RecordingReactor:
    """Stands in for a reactor: records the hosts that an endpoint would listen on."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def listenTCP(  # noqa: N802, Twisted's name
        self, port: int, factory: Factory, backlog: int = 50, interface: str = ""
    ) -> None:
        """Record the host."""
        self.hosts.append(interface)

    def listenUNIX(self, address: str, factory: Factory, **more: object) -> None:  # noqa: N802, Twisted's name
        """Record nothing: only this machine reaches a UNIX socket."""
