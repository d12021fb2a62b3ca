"""What a daemon was told by its options, checked and frozen."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rqdisco.backends.single.limits import Limits
from rqdisco.dns.zone import Zone
from rqdisco.probes.targets import Network
from rqdisco.security.certificates import Files


class DNSConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where and what to answer by DNS; `rate` is in answers a second for each source, 0 for any
    number.
    """

    addresses: tuple[tuple[str, int], ...]
    zone: Zone
    nameserver: str | None
    rate: float


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may take: IDs and requests a second for each of them, connections in all and for
    each.

    0 is no limit of a rate; None of connections is as many as there can be descriptors, within
    reason.
    """

    create_rate: float
    client_rate: float
    connections: int | None
    client_connections: int


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """This daemon among its peers: its name and URL there, where it listens, whom to ask for the
    others, the keys.
    """

    name: str
    advertise: str
    listen: tuple[str, ...]
    seeds: tuple[str, ...]
    keys: Path
    ack_required: bool
    tls: Files


class ProbeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between probes of a node, where nodes may be probed, and how many probes a second
    there are at most.
    """

    interval: float
    allowed: tuple[Network, ...]
    rate: float


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The options, checked. Without `tokens`, a file, everybody may everything, everywhere if it
    `is_open`; `hosts` are what this machine is called besides its own names. IDs that never had a
    node are forgotten after `unused_days`, if that is given.
    """

    tokens: Path | None
    is_open: bool
    listen: tuple[str, ...]
    hosts: tuple[str, ...]
    metrics_listen: tuple[str, ...]
    operator_socket: Path | None
    data_dir: Path
    limits: Limits
    unused_days: float | None
    strict_addresses: bool
    max_body: int
    snapshot_every: float
    drain_timeout: float
    audit: Path | None
    bounds: Bounds
    disk_reserve: int | None
    dns: DNSConfig | None
    peers: PeerConfig | None
    probing: ProbeConfig | None
