"""What there is under which name of the zone: pure functions from names and records to sets of DNS
records.

For an ID there are addresses at `ID.zone`, services at `_rqlite-raft._tcp.ID.zone` and
`_rqlite-http._tcp.ID.zone`, and a name for each address, `n-0a000001.ID.zone`, for the services to
point to, since a target must be a name (RFC 2782).
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
    """What a name below the zone asks for.

    `labels` are those of the ID. `kind` says which addresses of the nodes; None where there is
    nothing at this name but names below it.
    """

    labels: str
    kind: Kind | None


class Zone(msgspec.Struct, frozen=True):
    """The zone's name without its last dot, in lower case, and which services give which
    addresses.
    """

    name: str
    services: dict[str, Kind]

    def below(self, name: str) -> str | None:
        """`name` without the zone: empty at the zone itself, None outside of it."""
        if name == self.name:
            return ""
        below = f".{self.name}"
        return name.removesuffix(below) if name.endswith(below) else None

    def service(self, labels: str) -> ZoneQuery | None:
        """What `_service._tcp.ID` or `_tcp.ID` asks for; None for a name of another form, or
        another service.
        """
        first, _, rest = labels.partition(".")
        if first == "_tcp" and rest:
            return ZoneQuery(rest, None)
        protocol, _, of = rest.partition(".")
        kind = self.services.get(first[1:]) if first.startswith("_") else None
        return ZoneQuery(of, kind) if kind is not None and protocol == "_tcp" and of else None


def places(record: View, kind: Kind) -> list[HostPort]:
    """Where the nodes listen for others of their kind, each once, in the order of registration.

    Nodes without such an address are left out.
    """
    found = (
        parse_host_port(node.raft_addr or "") if kind == "raft" else parse_host_port(node.addr) for node in record.nodes
    )
    return list(dict.fromkeys(each for each in found if each is not None))


def hosts(record: View) -> list[HostPort]:
    """The machines of the nodes: that of the Raft address, else that of the address; ports mean
    nothing.
    """
    found = (parse_host_port(node.raft_addr or node.addr) or parse_host_port(node.addr) for node in record.nodes)
    unique: dict[str, HostPort] = {}
    for each in found:
        if each is not None:
            unique.setdefault(each.host, each)
    return list(unique.values())


def omission_reason(node: Node) -> str | None:
    """Why a node is not, or not everywhere, among the answers, as far as its addresses tell; None
    if it is.
    """
    if parse_host_port(node.addr) is None:
        return "its address has no usable host and port"
    if node.raft_addr is None:
        return "it has no Raft address"
    return None if parse_host_port(node.raft_addr) is not None else "its Raft address has no usable host and port"


@lru_cache(maxsize=8192)
def node_label(ip: str) -> str:
    """The label of the name that stands for an address."""
    return f"n-{ipaddress.ip_address(ip).packed.hex()}"


def ip_of_label(label: str) -> str | None:
    """The address that `node_label` made `label` of."""
    match = NODE_LABEL.match(label)
    return None if match is None else str(ipaddress.ip_address(bytes.fromhex(match[1])))


def has_ip(record: View, ip: str) -> bool:
    """Whether one of the nodes is reached at `ip`."""
    addrs = (addr for node in record.nodes for addr in (node.addr, node.raft_addr) if addr is not None)
    return any(found is not None and found.host == ip for found in map(parse_host_port, addrs))


def of_family(ips: Iterable[str], *, v6: bool) -> list[str]:
    """Those of `ips` that are IPv6 addresses, or those that are not, each once."""
    return [ip for ip in dict.fromkeys(ips) if (":" in ip) == v6]
