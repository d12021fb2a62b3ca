"""The daemon's options, from the command line and the environment; validated together."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from rqdisco.backends.limits import Limits
from rqdisco.core.dns_labels import is_zone_name
from rqdisco.core.host_ports import is_host_name
from rqdisco.dns.zone import SERVICES, Zone
from rqdisco.security.certificates import Files
from rqdisco.service import etcd_options
from rqdisco.service.config import Bounds, Config, DNSConfig, PeerConfig, ProbeConfig
from rqdisco.service.option_values import (
    aliases,
    bytes_of,
    host_name,
    ip_and_port,
    number,
    own_host,
    parse_flag,
    probed_network,
    proxy_network,
    service_url,
)

DEFAULT_LISTEN = "tcp:4000:interface=127.0.0.1:backlog=1000"
USAGE_STATUS = 64
_FEWEST_DAYS = 1 / 24
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class DaemonOptions(usage.Options):
    """The options. Each may also be set in the environment, as RQDISCO_ and its name; the command
    line takes precedence.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs the rqlite discovery service. Each option can also be set in the environment as RQDISCO_<OPTION>;"
        " separate repeated values by spaces."
    )

    optParameters: ClassVar[list[list[str | None]]] = [
        [
            "operator-socket",
            None,
            None,
            "UNIX socket for operators, without tokens; off disables it."
            " [default: $RUNTIME_DIRECTORY/operator.sock if that is set, else off]",
        ],
        [
            "tokens",
            None,
            None,
            "Token file. If set, clients need a token from it."
            " [default: none; other machines cannot connect unless --open]",
        ],
        [
            "data-dir",
            None,
            None,
            "Directory for the daemon's state; optional with --etcd. [default: $STATE_DIRECTORY, else ./rqdisco-data]",
        ],
        ["retry-window", None, "30", "Seconds within which a node may retry its bootstrap grant; 0 disables retries."],
        ["max-ids", None, None, "Maximum number of discovery IDs; approximate with --etcd. [default: no limit]"],
        ["expire-unused", None, None, "Days after which an ID that never had a node is deleted. [default: never]"],
        ["max-nodes", None, "1000", "Maximum number of nodes per ID."],
        ["max-body", None, "16384", "Maximum size of a request body in bytes."],
        ["create-rate", None, "10", "Maximum rate of new IDs per client and second; 0 means no limit."],
        ["client-rate", None, "500", "Requests per client and second above which they are delayed; 0 means no limit."],
        ["max-connections", None, None, "Maximum number of connections. [default: 10000, or fewer by ulimit -n]"],
        ["max-client-connections", None, "2000", "Maximum number of connections per client."],
        ["idle-timeout", None, "75", "Seconds after which an idle connection is closed."],
        [
            "disk-reserve",
            None,
            None,
            "Disk space to keep free, such as 64M or 1G. [default: 64M or 1% of the disk, whichever is less]",
        ],
        ["snapshot-every", None, None, "Seconds between snapshots. [default: 300]"],
        ["drain-timeout", None, "0", "Seconds to keep serving after a stop signal, while /readyz fails."],
        ["audit", None, None, "File for the audit log: one line of JSON per change. [default: none]"],
        ["dns-zone", None, None, "Zone to answer DNS queries for, such as disco.example.com."],
        [
            "dns-aliases",
            None,
            "rqlite,raft,rqlite-svc",
            "More service names for Raft addresses; NAME:http for HTTP addresses.",
        ],
        ["dns-nameserver", None, None, "Name server in the zone's NS record. [default: ns in the zone]"],
        ["dns-rate", None, "1000", "Maximum rate of UDP answers per source and second; 0 means no limit."],
        ["advertise", None, None, "URL at which peers reach this daemon: http://HOST:PORT or https://HOST:PORT."],
        ["peer-keys", None, None, "File of keys shared by all peers, one per line; the first one signs."],
        ["peer-ca", None, None, "CA file to verify the peers' certificates. [default: the system's CAs]"],
        ["peer-cert", None, None, "Certificate file for connections to peers. [default: none]"],
        ["peer-key", None, None, "Key file of --peer-cert. [default: the certificate file]"],
        ["name", None, None, "Name of this daemon among its peers. [default: the host name]"],
        [
            "grant-ack",
            None,
            "if-up",
            "When a peer must acknowledge a bootstrap grant: if-up (if any is reachable) or required.",
        ],
        *etcd_options.PARAMETERS,
        ["probe", None, None, "Seconds between probes of a node; requires --probe-allow. [default: no probes]"],
        ["probe-rate", None, "100", "Maximum number of probes per second."],
        ["kv-create", None, "yes", "Create IDs for unknown consul-kv keys: yes or no."],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["open", None, "Serve every client that can connect, without tokens."],
        ["dns-open", None, "Answer DNS queries without tokens, from other machines too."],
        ["kv-visible-claims", None, "Show a consul-kv claim before its leader reports itself, as Consul does."],
        ["strict-addresses", None, "Refuse addresses that other machines cannot reach, instead of logging them."],
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._listen: list[str] = []
        self._hosts: list[str] = []
        self._dns: list[str] = []
        self._metrics_listen: list[str] = []
        self._peers: list[str] = []
        self._peer_listen: list[str] = []
        self._etcd: list[str] = []
        self._default_etcd = environment.get("RQDISCO_ETCD", "").split()
        self._default_peers = environment.get("RQDISCO_PEER", "").split()
        self._default_peer_listen = environment.get("RQDISCO_PEER_LISTEN", "").split()
        self._default_metrics_listen = environment.get("RQDISCO_METRICS_LISTEN", "").split()
        self._trusted_proxies: list[str] = []
        self._default_trusted_proxies = environment.get("RQDISCO_TRUSTED_PROXY", "").split()
        self._probe_allow: list[str] = []
        self._default_probe_allow = environment.get("RQDISCO_PROBE_ALLOW", "").split()
        self._default_hosts = environment.get("RQDISCO_HOST", "").split()
        self._default_dns = environment.get("RQDISCO_DNS", "").split()
        self._default_listen = environment.get("RQDISCO_LISTEN", "").split() or [DEFAULT_LISTEN]
        self._runtime_directory = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self._default_directory = environment.get("STATE_DIRECTORY", "").split(":")[0]
        for name in (str(each[0]) for each in (*self.optParameters, *self.optFlags)):
            # Values from the environment are defaults, so the command line takes precedence.
            if text := environment.get("RQDISCO_" + name.upper().replace("-", "_")):
                self[name] = text

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on, as a Twisted endpoint string; repeatable. [default:
        tcp:4000:interface=127.0.0.1:backlog=1000]
        """
        self._listen.append(endpoint)

    def opt_host(self, name: str) -> None:
        """Host name or IP to accept in the Host header of loopback requests, besides localhost and
        loopback IPs; repeatable.
        """
        self._hosts.append(name)

    def opt_trusted_proxy(self, cidr: str) -> None:
        """Network of proxies, such as 10.0.0.0/28, whose Forwarded or X-Forwarded-For header names
        the client; repeatable. [default: none]
        """
        self._trusted_proxies.append(cidr)

    def opt_dns(self, address: str) -> None:
        """IP:PORT to answer DNS queries on, over UDP and TCP; repeatable. [default: none]"""
        self._dns.append(address)

    def opt_metrics_listen(self, endpoint: str) -> None:
        """Endpoint to serve /metrics on, as a Twisted endpoint string; repeatable. [default:
        none]
        """
        self._metrics_listen.append(endpoint)

    def opt_probe_allow(self, cidr: str) -> None:
        """Network whose addresses may be probed, such as 10.0.0.0/16; repeatable. [default:
        none]
        """
        self._probe_allow.append(cidr)

    def opt_peer(self, url: str) -> None:
        """URL of a peer; repeatable. One is enough to discover the others. [default: none]"""
        self._peers.append(url)

    def opt_peer_listen(self, endpoint: str) -> None:
        """Endpoint to listen for peers on, as a Twisted endpoint string; repeatable. [default:
        none]
        """
        self._peer_listen.append(endpoint)

    def opt_etcd(self, url: str) -> None:
        """URL of a member of the etcd cluster that stores the records; repeatable. [default:
        none]
        """
        self._etcd.append(url)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse the command line. Print a usage error in one line and exit with USAGE_STATUS."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            print(f"rqdisco: {error} (see twistd rqdisco --help)", file=sys.stderr)
            raise SystemExit(USAGE_STATUS) from None

    def postOptions(self) -> None:
        tokens = self._path("tokens")
        if tokens is not None and self._flag("open"):
            raise usage.UsageError("open: cannot be combined with --tokens")
        dns = self._dns_config(self._dns or self._default_dns)
        if dns is not None and not self._flag("dns-open"):
            self._check_dns(dns, tokens)
        peers, peer_listen = self._peers or self._default_peers, self._peer_listen or self._default_peer_listen
        etcd = etcd_options.etcd_config(
            self, self._etcd or self._default_etcd, {"peer": peers, "peer-listen": peer_listen, "dns": dns}
        )
        self.config = Config(
            tokens=tokens,
            is_open=self._flag("open"),
            listen=tuple(self._listen or self._default_listen),
            hosts=tuple(own_host(each) for each in self._hosts or self._default_hosts),
            metrics_listen=tuple(self._metrics_listen or self._default_metrics_listen),
            operator_socket=self._operator_socket(),
            data_dir=self._data_dir(is_needed=etcd is None),
            limits=Limits(
                retry_window_ms=int(1000 * self._number("retry-window", 0.0)),
                max_ids=None if self["max-ids"] is None else int(self._number("max-ids", 0)),
                max_nodes=int(self._number("max-nodes", 1)),
                create_named=self._flag("kv-create"),
                visible_claims=self._flag("kv-visible-claims"),
            ),
            unused_days=None if self["expire-unused"] is None else self._number("expire-unused", _FEWEST_DAYS),
            strict_addresses=self._flag("strict-addresses"),
            max_body=int(self._number("max-body", 64)),
            snapshot_every=number("snapshot-every", self["snapshot-every"] or "300", 1.0),
            drain_timeout=self._number("drain-timeout", 0.0),
            audit=Path(self["audit"]).absolute() if self["audit"] else None,
            bounds=Bounds(
                create_rate=self._number("create-rate", 0.0),
                client_rate=self._number("client-rate", 0.0),
                connections=None if self["max-connections"] is None else int(self._number("max-connections", 1)),
                client_connections=int(self._number("max-client-connections", 1)),
            ),
            trusted_proxies=tuple(map(proxy_network, self._trusted_proxies or self._default_trusted_proxies)),
            idle_timeout=self._number("idle-timeout", 1.0),
            disk_reserve=None if self["disk-reserve"] is None else bytes_of("disk-reserve", self["disk-reserve"]),
            dns=dns,
            peers=None if etcd is not None else self._peer_config(peers, peer_listen),
            etcd=etcd,
            probing=self._probe_config(self._probe_allow or self._default_probe_allow),
        )

    def _data_dir(self, *, is_needed: bool) -> Path | None:
        path = self["data-dir"] or self._default_directory or ("rqdisco-data" if is_needed else None)
        return None if path is None else Path(path).absolute()

    def _operator_socket(self) -> Path | None:
        default = f"{self._runtime_directory}/operator.sock" if self._runtime_directory else "off"
        path = self["operator-socket"] or default
        return None if path == "off" else Path(path).absolute()

    def _peer_config(self, seeds: list[str], listen: list[str]) -> PeerConfig | None:
        tls = [name for name in ("peer-ca", "peer-cert", "peer-key") if self[name]]
        needed = {"peer-listen": listen, "advertise": self["advertise"], "peer-keys": self["peer-keys"]}
        if not seeds and not any(needed.values()) and not tls:
            return None
        for name, value in needed.items():
            if not value:
                raise usage.UsageError(f"{name}: required with peers")
        if self["peer-key"] and not self["peer-cert"]:
            raise usage.UsageError("peer-key: requires --peer-cert")
        if self["grant-ack"] not in ("if-up", "required"):
            raise usage.UsageError(f"grant-ack: {self['grant-ack']!r} is neither if-up nor required")
        name = self["name"] or socket.gethostname()
        if not _NAME.match(name):
            raise usage.UsageError(f"name: {name!r} is not 1 to 64 letters, digits, dots, underscores and hyphens")
        return PeerConfig(
            name=name,
            advertise=service_url("advertise", self["advertise"]),
            listen=tuple(listen),
            seeds=tuple(service_url("peer", url) for url in seeds),
            keys=Path(self["peer-keys"]).absolute(),
            ack_required=self["grant-ack"] == "required",
            tls=Files(
                key=self._path("peer-key") or self._path("peer-cert"),
                certificate=self._path("peer-cert"),
                authorities=self._path("peer-ca"),
            ),
        )

    def _probe_config(self, allowed: list[str]) -> ProbeConfig | None:
        if self["probe"] is None:
            if allowed:
                raise usage.UsageError("probe-allow: requires --probe, the seconds between probes")
            return None
        if not allowed:
            raise usage.UsageError(
                "probe: requires --probe-allow, the networks of the nodes (such as 10.0.0.0/16), because clients choose"
                " the addresses that this daemon connects to"
            )
        return ProbeConfig(
            interval=self._number("probe", 1.0),
            allowed=tuple(map(probed_network, allowed)),
            rate=self._number("probe-rate", 1.0),
        )

    def _path(self, name: str) -> Path | None:
        return None if self[name] is None else Path(self[name]).absolute()

    def _check_dns(self, dns: DNSConfig, tokens: Path | None) -> None:
        if tokens is not None:
            raise usage.UsageError(
                "dns: DNS queries carry no token; set --dns-open to let every client that knows an ID read its nodes"
            )
        beyond = [host for host, _ in dns.addresses if not ipaddress.ip_address(host).is_loopback]
        if beyond and not self._flag("open"):
            raise usage.UsageError(f"dns: other machines can reach {beyond[0]}; set --dns-open or --open to allow them")

    def _dns_config(self, addresses: list[str]) -> DNSConfig | None:
        if not addresses:
            if self["dns-zone"] is not None:
                raise usage.UsageError("dns-zone: requires --dns, the address to answer on")
            return None
        if self["dns-zone"] is None:
            raise usage.UsageError("dns: requires --dns-zone, the zone to answer for")
        zone = host_name("dns-zone", self["dns-zone"], is_zone_name)
        nameserver = self["dns-nameserver"]
        return DNSConfig(
            addresses=tuple(map(ip_and_port, addresses)),
            zone=Zone(zone, {**SERVICES, **aliases(self["dns-aliases"])}),
            nameserver=None if nameserver is None else host_name("dns-nameserver", nameserver, is_host_name),
            rate=self._number("dns-rate", 0.0),
        )

    def _number(self, name: str, least: float) -> float:
        return number(name, self[name], least)

    def _flag(self, name: str) -> bool:
        return parse_flag(name, str(self[name]))
