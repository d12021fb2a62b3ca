"""The names of the zone, and what they contain. Pure.

An ID has addresses at `ID.zone`, services at `_rqlite-raft._tcp.ID.zone` and
`_rqlite-http._tcp.ID.zone`, and a name per address, `n-0a000001.ID.zone`, as the target of the
services, which must be a name (RFC 2782).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from rqdisco.core.dns_labels import NODE_LABEL
from rqdisco.core.host_ports import HostPort, parse_host_port
from rqdisco.core.records import Node
from rqdisco.core.views import View

Kind = Literal["raft", "http"]

SERVICES: dict[str, Kind] = {"rqlite-raft": "raft", "rqlite-http": "http"}
NAMESERVER = "ns"


class ZoneQuery(msgspec.Struct, frozen=True):
    """A service name below the zone."""

    # The labels of the ID.
    labels: str
    # Which addresses of the nodes; None if there are only names below this one.
    kind: Kind | None


class Zone(msgspec.Struct, frozen=True):
    """The zone."""

    # In lower case, without the final dot.
    name: str
    # The addresses that each service gives.
    services: dict[str, Kind]

    def below(self, name: str) -> str | None:
        """Return `name` without the zone: empty for the zone itself, None for a name outside of
        it.
        """
        if name == self.name:
            return ""
        below = f".{self.name}"
        return name.removesuffix(below) if name.endswith(below) else None

    def service(self, labels: str) -> ZoneQuery | None:
        """Parse `_service._tcp.ID` or `_tcp.ID`. Return None for another form or an unknown
        service.
        """
        first, _, rest = labels.partition(".")
        if first == "_tcp" and rest:
            return ZoneQuery(rest, None)
        protocol, _, owner = rest.partition(".")
        kind = self.services.get(first[1:]) if first.startswith("_") else None
        return ZoneQuery(owner, kind) if kind is not None and protocol == "_tcp" and owner else None


def service_addresses(record: View, kind: Kind) -> list[HostPort]:
    """Return the distinct Raft or HTTP addresses of the nodes, in the order of registration.

    Nodes without such an address are omitted.
    """
    addrs = (
        parse_host_port(node.raft_addr or "") if kind == "raft" else parse_host_port(node.addr) for node in record.nodes
    )
    return list(dict.fromkeys(addr for addr in addrs if addr is not None))


def node_hosts(record: View) -> list[HostPort]:
    """Return the distinct hosts of the nodes, by Raft address, else HTTP address; ignore the
    ports.
    """
    addrs = (parse_host_port(node.raft_addr or node.addr) or parse_host_port(node.addr) for node in record.nodes)
    unique: dict[str, HostPort] = {}
    for addr in addrs:
        if addr is not None:
            unique.setdefault(addr.host, addr)
    return list(unique.values())


def omission_reason(node: Node) -> str | None:
    """Return why some or all answers omit a node, judging by its addresses; None if none does."""
    if parse_host_port(node.addr) is None:
        return "its address has no usable host and port"
    if node.raft_addr is None:
        return "it has no Raft address"
    return None if parse_host_port(node.raft_addr) is not None else "its Raft address has no usable host and port"


@lru_cache(maxsize=8192)
def node_label(ip: str) -> str:
    """Return the label of the name for an IP address."""
    return f"n-{ipaddress.ip_address(ip).packed.hex()}"


def ip_of_label(label: str) -> str | None:
    """Return the IP address of a label of `node_label`, None for another label."""
    match = NODE_LABEL.match(label)
    return None if match is None else str(ipaddress.ip_address(bytes.fromhex(match[1])))


def has_ip(record: View, ip: str) -> bool:
    """Report whether a node has the address `ip`."""
    addrs = (addr for node in record.nodes for addr in (node.addr, node.raft_addr) if addr is not None)
    return any(parsed is not None and parsed.host == ip for parsed in map(parse_host_port, addrs))


def of_family(ips: Iterable[str], *, v6: bool) -> list[str]:
    """Return the distinct IPv6 or IPv4 addresses among `ips`."""
    return [ip for ip in dict.fromkeys(ips) if (":" in ip) == v6]
