"""Which machine a request comes from, as far as the connection tells (rule R5d)."""

from __future__ import annotations

import ipaddress
from typing import Any

from rqdisco.core.addresses import is_loopback
from rqdisco.core.host_binding import THIS_MACHINE

# Whoever puts one of these on a request stands between the client and this daemon.
_FORWARDERS = (b"via", b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip")
_FORWARDED = (b"x-forwarded-", b"x-envoy-")
_FORWARDED_FOR = b"x-forwarded-for"
# What rqlited, curl and the command send, as Twisted spells it.
_USUAL = frozenset(
    {b"Host", b"User-Agent", b"Accept", b"Accept-Encoding", b"Content-Length", b"Content-Type", b"Authorization"}
    | {b"Connection", b"X-Consul-Token"}
)


def client_host(request: Any) -> str | None:
    """The address of the machine that asks, THIS_MACHINE for this daemon's own, None where a proxy
    hides it.

    A client that reaches the daemon through a UNIX socket, through the loopback interface or from
    the address that it connects to is on this machine. A proxy that speaks the PROXY protocol is
    trusted, and names the client. If the client is on the proxy's own machine, the result is
    THIS_MACHINE when the proxy runs here, and None otherwise. Headers of other proxies are not
    trusted.
    """
    channel = request.channel
    client, reached = _ip_of(request.getClientAddress()), _ip_of(request.getHost())
    proxy = getattr(channel, "proxy", None)
    if proxy is None:
        if _is_forwarded(request):
            return None
        return THIS_MACHINE if _is_same_machine(client, reached) else client
    if client is None or not channel.names_client or _is_forwarded(request, client):
        return None
    if _is_same_machine(client, reached) and _is_same_machine(*map(_ip_of, proxy)):
        return THIS_MACHINE
    return None if is_loopback(client) else client


def _is_forwarded(request: Any, named: str | None = None) -> bool:
    """Whether somebody stands between of whom the connection says nothing.

    nginx adds no header unless it is told to, but asks by HTTP/1.0, as rqlited never does. `named`
    is the client as a trusted proxy named it, which may have written that into a header too.
    """
    if request.clientproto == b"HTTP/1.0":
        return True
    headers = request.requestHeaders
    # Nearly all requests have none but these.
    unusual = [name.lower() for name, _ in headers.getAllRawHeaders() if name not in _USUAL]
    if not unusual:
        return False
    if named is not None and headers.getRawHeaders(_FORWARDED_FOR) == [named.encode()]:
        return any(name in _FORWARDERS[:2] for name in unusual)
    return any(name in _FORWARDERS or name.startswith(_FORWARDED) for name in unusual)


def _ip_of(address: object) -> str | None:
    """The host of an address in one spelling: without its zone, and IPv4 without the prefix that
    IPv6 sockets give it (RFC 4291 section 2.5.5.2). None for a UNIX socket.
    """
    host: str | None = getattr(address, "host", None)
    if host is None or ":" not in host:
        return host
    ip = ipaddress.IPv6Address(host.partition("%")[0])
    return str(ip.ipv4_mapped or ip)


def _is_same_machine(client: str | None, reached: str | None) -> bool:
    """Whether a client is on the machine that it reached at that address; without one it is a UNIX
    socket's.
    """
    return client is None or client == reached or is_loopback(client)
