"""Where a node is probed, and where nothing is ever probed. Pure.

Whoever may register a node says with it where the daemon connects to: without bounds that would be
a port scanner inside of the operator's network, for everybody who has an ID.
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
# Where clouds hand out credentials and secrets to whoever connects from the machine.
_METADATA: frozenset[_Address] = frozenset(
    map(
        ipaddress.ip_address,
        (
            # Most of them, OpenStack by IPv6 too
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
    """A node's own host, an IP address or a name, and port; `way` is how it is asked: "tcp" only
    connects.
    """

    way: Literal["http", "https", "tcp"]
    host: str
    port: int
    is_ip: bool

    def __str__(self) -> str:
        """As it is shown in the log."""
        return f"{self.way}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def target_of(node: Node) -> ProbeTarget | None:
    """Where to probe a node: its HTTP address, or its Raft address if that is all it has; None for
    neither.

    Who claims the leader key of consul-kv without an HTTP address is registered by its Raft
    address.
    """
    found = None if node.addr == node.raft_addr else parse_host_port(node.addr)
    if found is not None:
        return ProbeTarget("https" if node.addr.startswith("https://") else "http", found.host, found.port, found.is_ip)
    raft = parse_host_port(node.raft_addr or "")
    return None if raft is None else ProbeTarget("tcp", raft.host, raft.port, raft.is_ip)


def network(text: str) -> Network:
    """The addresses `text` stands for, as `10.0.0.0/16`. Raises ValueError, which says why."""
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is an IPv4 address in IPv6's clothes, write it as one")
    return found


class Allowed:
    """The addresses that may be probed: those in one of `networks`.

    Addresses of this machine, of its link, or of no machine at all are not meant by a network that
    merely holds them too, such as 0.0.0.0/0, but only by one of nothing else, such as 127.0.0.0/8.
    Where a cloud keeps metadata is meant only by that very address, also where a gateway translates
    an IPv6 address to it.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __call__(self, ip: str) -> bool:
        """Whether the address `ip` may be probed."""
        address = ipaddress.ip_address(ip)
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        return any(_is_meant(address, each) for each in self._networks)

    def all(self, ips: Sequence[str]) -> bool:
        """Whether each of `ips` may be: a name with one address elsewhere is not to be trusted with
        the others.
        """
        return all(map(self, ips))


def _translated(address: _Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that NAT64 (RFC 6052) or 6to4 (RFC 3056) make of an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    return ipaddress.IPv4Address(address.packed[12:]) if address in _NAT64 else address.sixtofour


def _is_meant(address: _Address, by: Network) -> bool:
    if address.version != by.version or address not in by:
        return False
    if by.num_addresses > 1 and (address in _METADATA or _translated(address) in _METADATA):
        return False
    return all(getattr(by, kind) for kind in _SPECIAL if getattr(address, kind))
