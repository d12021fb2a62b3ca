"""Probe targets, and the addresses that may be probed. Pure.

A client that registers a node chooses where the daemon connects to. Without limits, anyone with an
ID could use the daemon as a port scanner inside the operator's network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from rqdisco.core.host_ports import parse_host_port
from rqdisco.core.records import Node

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SPECIAL = ("is_loopback", "is_link_local", "is_reserved", "is_multicast", "is_unspecified")
# Metadata services of clouds, which give credentials to any client on the host.
_METADATA: frozenset[_Address] = frozenset(
    map(
        ipaddress.ip_address,
        (
            # Most clouds, OpenStack over IPv6 too
            "169.254.169.254",
            "fe80::a9fe:a9fe",
            # AWS; its containers (ECS and EKS)
            "fd00:ec2::254",
            "169.254.170.2",
            "169.254.170.23",
            "fd00:ec2::23",
            # Google
            "fd20:ce::254",
            # Azure's WireServer
            "168.63.129.16",
            # Oracle
            "192.0.0.192",
            "fd00:c1::a9fe:a9fe",
            # Alibaba
            "100.100.100.200",
            "fd00:100::100:200",
            # Tencent
            "169.254.0.23",
            "169.254.10.10",
            # Scaleway
            "169.254.42.42",
            "fd00:42::42",
            # Akamai
            "fd00:a9fe:a9fe::1",
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ProbeTarget(msgspec.Struct, frozen=True, gc=False):
    """The address of a node, an IP address or a name. A probe of scheme "tcp" only connects."""

    scheme: Literal["http", "https", "tcp"]
    host: str
    port: int
    is_ip: bool

    def __str__(self) -> str:
        """Format for the log."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def target_of(node: Node) -> ProbeTarget | None:
    """Return where to probe a node: its HTTP address, else its Raft address, else None.

    A node that claims the leader key without an HTTP address is registered by its Raft address.
    """
    http = None if node.addr == node.raft_addr else parse_host_port(node.addr)
    if http is not None:
        scheme: Literal["http", "https"] = "https" if node.addr.startswith("https://") else "http"
        return ProbeTarget(scheme, http.host, http.port, http.is_ip)
    raft = parse_host_port(node.raft_addr or "")
    return None if raft is None else ProbeTarget("tcp", raft.host, raft.port, raft.is_ip)


def parse_network(text: str) -> Network:
    """Parse a network such as `10.0.0.0/16`. Raises ValueError."""
    parsed = ipaddress.ip_network(text)
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is an IPv4-mapped IPv6 address: write it as an IPv4 address")
    return parsed


class AllowedAddresses:
    """The addresses that may be probed: those in one of `networks`.

    Special addresses (loopback, link-local, reserved, multicast, unspecified) are not allowed by a
    network that merely includes them, such as 0.0.0.0/0, but only by one that consists of them,
    such as 127.0.0.0/8. The address of a cloud's metadata service is allowed only by that very
    address, also if a gateway translates an IPv6 address to it.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __call__(self, ip: str) -> bool:
        """Report whether the address `ip` may be probed."""
        address = ipaddress.ip_address(ip)
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        return any(_covers(network, address) for network in self._networks)

    def all(self, ips: Sequence[str]) -> bool:
        """Report whether all of `ips` may be probed. A name with one address that may not is not
        trusted with the others.
        """
        return all(map(self, ips))


def _translated(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that NAT64 (RFC 6052) or 6to4 (RFC 3056) translate an IPv6 address
    to.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return None
    return ipaddress.IPv4Address(address.packed[12:]) if address in _NAT64 else address.sixtofour


def _covers(network: Network, address: _Address) -> bool:
    if address.version != network.version or address not in network:
        return False
    if network.num_addresses > 1 and (address in _METADATA or _translated(address) in _METADATA):
        return False
    return all(getattr(network, kind) for kind in _SPECIAL if getattr(address, kind))
