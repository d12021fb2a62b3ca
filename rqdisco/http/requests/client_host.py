"""The host that a request comes from, as far as the connection shows it (rule R5d)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from rqdisco.core.addresses import is_loopback
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.http.requests.request import Request

# Proxies add one of these headers to a request.
_FORWARDERS = (b"via", b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip")
_FORWARDED = (b"x-forwarded-", b"x-envoy-")
_FORWARDED_FOR = b"x-forwarded-for"
# The headers that rqlited, curl and the rqdisco command send.
_USUAL = frozenset(
    {b"host", b"user-agent", b"accept", b"accept-encoding", b"content-length", b"content-type", b"authorization"}
    | {b"connection", b"x-consul-token"}
)


def client_host(request: Request) -> str | None:
    """Return the address of the client's host, THIS_MACHINE for the daemon's own, None if a proxy
    hides it.

    A client that reaches the daemon through a UNIX socket, through the loopback interface or from
    the address that it connects to is on this machine. A proxy that speaks the PROXY protocol is
    trusted, and names the client. If the client is on the proxy's own machine, the result is
    THIS_MACHINE when the proxy runs here, and None otherwise. A proxy whose headers are trusted
    names the client in them; never as a part of this machine, since it may pass on what a client
    sent. Headers of other proxies are not trusted.
    """
    forwarded = request.forwarded
    if forwarded is not None:
        return None if forwarded.is_proxy else forwarded.host
    connection = request.connection
    proxy = connection.proxy
    if proxy is None:
        return None if _is_forwarded(request) else _direct_host(request.client, connection.local_host)
    client, local_host = _ip_of(request.client), _ip_of(connection.local_host)
    if client is None or not connection.knows_client or _is_forwarded(request, client):
        return None
    if _is_same_machine(client, local_host) and _is_same_machine(*map(_ip_of, proxy)):
        return THIS_MACHINE
    return None if is_loopback(client) else client


@lru_cache(maxsize=1024)
def _direct_host(client: str | None, reached: str | None) -> str | None:
    """The host of a client that is connected to the daemon itself."""
    ip = _ip_of(client)
    return THIS_MACHINE if _is_same_machine(ip, _ip_of(reached)) else ip


def _is_forwarded(request: Request, named: str | None = None) -> bool:
    """Report whether a proxy that the connection does not identify forwarded the request.

    nginx adds no header unless it is configured to, but it uses HTTP/1.0, which rqlited never does.
    `named` is the client that a trusted proxy named; that proxy may have written it into a header,
    too.
    """
    if request.version == b"1.0":
        return True
    # Nearly all requests have only usual headers.
    unusual = [name for name, _ in request.headers if name not in _USUAL]
    if not unusual:
        return False
    if named is not None and request.headers_named(_FORWARDED_FOR) == [named.encode()]:
        return any(name in _FORWARDERS[:2] for name in unusual)
    return any(name in _FORWARDERS or name.startswith(_FORWARDED) for name in unusual)


def _ip_of(host: str | None) -> str | None:
    """A normalized IP address: without its zone, and IPv4 without the prefix that IPv6
    sockets add (RFC 4291 section 2.5.5.2). None for a UNIX socket.
    """
    if host is None or ":" not in host:
        return host
    ip = ipaddress.IPv6Address(host.partition("%")[0])
    return str(ip.ipv4_mapped or ip)


def _is_same_machine(client: str | None, local_host: str | None) -> bool:
    """Report whether a client is on the machine that it reached at `local_host`; a client without an
    address uses a UNIX socket.
    """
    return client is None or client == local_host or is_loopback(client)
