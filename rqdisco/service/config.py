"""The daemon's configuration: its options, validated and immutable."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from rqdisco.backends.limits import Limits
from rqdisco.dns.zone import Zone
from rqdisco.probes.targets import Network
from rqdisco.security.certificates import Files

LogFormat = Literal["text", "json"]
LogLevelName = Literal["debug", "info", "warn", "error"]


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The log on stdout: its format, None for the one that fits where it goes, and the least level."""

    format: LogFormat | None = None
    level: LogLevelName = "info"


class DNSConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The DNS server. `rate` is UDP answers per second and source, 0 for no limit."""

    addresses: tuple[tuple[str, int], ...]
    zone: Zone
    nameserver: str | None
    rate: float


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on clients: the rates of new IDs and of requests, per client and second, 0 for no
    limit; and connections, in total and per client.

    If `connections` is None, the limit is a default, or fewer if file descriptors are scarce.
    """

    create_rate: float
    client_rate: float
    connections: int | None
    client_connections: int


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """This daemon among its peers. `advertise` is its URL, `seeds` the URLs to find others at,
    `keys` the file of shared keys, `tls` the files for connections to peers.
    """

    name: str
    advertise: str
    listen: tuple[str, ...]
    seeds: tuple[str, ...]
    keys: Path
    ack_required: bool
    tls: Files


class EtcdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The etcd cluster that stores the records: the URLs of its members, the prefix of the keys,
    and how this daemon authenticates.

    At start the daemon tries to reach it for `wait` seconds. DNS answers may be out of date by
    `serve_stale` seconds while it does not answer.
    """

    endpoints: tuple[str, ...]
    prefix: str
    user: str | None
    password_file: Path | None
    tls: Files
    wait: float
    serve_stale: float


class ProbeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Probes: seconds between those of one node, the networks allowed, and the maximum number per
    second.
    """

    interval: float
    allowed: tuple[Network, ...]
    rate: float


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration.

    Without a `tokens` file every request is allowed, but only from this machine unless `is_open`.
    `hosts` are further names to accept in the Host header. `trusted_proxies` are the networks of
    proxies whose headers name the client. A connection may rest for `idle_timeout` seconds. IDs
    that never had a node expire after `unused_days`, if that is set. Only with `etcd` may there be
    no `data_dir`; there are never both `etcd` and `peers`.
    """

    tokens: Path | None
    is_open: bool
    listen: tuple[str, ...]
    hosts: tuple[str, ...]
    metrics_listen: tuple[str, ...]
    operator_socket: Path | None
    data_dir: Path | None
    limits: Limits
    unused_days: float | None
    strict_addresses: bool
    max_body: int
    snapshot_every: float
    drain_timeout: float
    audit: Path | None
    bounds: Bounds
    trusted_proxies: tuple[Network, ...]
    idle_timeout: float
    disk_reserve: int | None
    dns: DNSConfig | None
    peers: PeerConfig | None
    etcd: EtcdConfig | None
    probing: ProbeConfig | None
    log: LogConfig = LogConfig()
