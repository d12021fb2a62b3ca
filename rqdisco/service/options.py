"""The daemon's options, from the command line and the environment, checked as a whole."""

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

from rqdisco.backends.single.limits import Limits
from rqdisco.core.dns_labels import is_zone_name
from rqdisco.core.host_ports import is_host_name
from rqdisco.dns.zone import SERVICES, Zone
from rqdisco.security.certificates import Files
from rqdisco.service.config import Bounds, Config, DNSConfig, PeerConfig, ProbeConfig
from rqdisco.service.option_values import (
    aliases,
    bytes_of,
    host_name,
    ip_and_port,
    number,
    own_host,
    parse_flag,
    peer_url,
    probed_network,
)

DEFAULT_LISTEN = "tcp:4000:interface=127.0.0.1:backlog=1000"
USAGE_STATUS = 64
_FEWEST_DAYS = 1 / 24
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class DaemonOptions(usage.Options):
    """The options. Each may also be set in the environment, as RQDISCO_ and its name; the command
    line wins.
    """

    synopsis = "[options]"
    longdesc = "Runs the rqlite discovery service. Each option may also be set as RQDISCO_<OPTION> in the environment."

    optParameters: ClassVar[list[list[str | None]]] = [
        ["operator-socket", None, None, "A socket for the operator; off = none. [default: one in $RUNTIME_DIRECTORY]"],
        [
            "tokens",
            None,
            None,
            "A file of tokens; if given, only who has one of them is served."
            " [default: none; then only this machine is served, unless --open]",
        ],
        ["data-dir", None, None, "Where the state is kept. [default: $STATE_DIRECTORY, else ./rqdisco-data]"],
        ["retry-window", None, "30", "Seconds in which a node that was told it is alone is told so again; 0 = off."],
        ["max-ids", None, None, "How many discovery IDs may be held. [default: no limit]"],
        ["expire-unused", None, None, "Days after which an ID that never had a node is forgotten. [default: never]"],
        ["max-nodes", None, "1000", "How many nodes an ID may hold."],
        ["max-body", None, "16384", "How many bytes the body of a request may have."],
        ["create-rate", None, "10", "IDs a second that a client may mint; 0 = no limit."],
        ["client-rate", None, "500", "Requests a second of a client, beyond which they wait; 0 = no limit."],
        ["max-connections", None, None, "How many connections there may be. [default: 10000, or what can be had]"],
        ["max-client-connections", None, "2000", "How many connections a client may have."],
        [
            "disk-reserve",
            None,
            None,
            "What stays free on the disk, as 64M or 1G. [default: 1 %, or 64M if that is less]",
        ],
        ["snapshot-every", None, "300", "Seconds between snapshots."],
        [
            "drain-timeout",
            None,
            "0",
            "Seconds for which one that is to stop still serves, and /readyz says that it will not.",
        ],
        ["audit", None, None, "A file for the audit log, a line of JSON for each change. [default: none]"],
        ["dns-zone", None, None, "The zone that DNS questions are answered for, such as disco.example.com."],
        [
            "dns-aliases",
            None,
            "rqlite,raft,rqlite-svc",
            "More names of rqlite-raft's service; NAME:http of the other's.",
        ],
        ["dns-nameserver", None, None, "What the zone calls its name server. [default: ns in the zone]"],
        ["dns-rate", None, "1000", "Answers a second that a source may have over UDP; 0 = no limit."],
        ["advertise", None, None, "The URL that peers reach this daemon by, http://HOST:PORT."],
        ["peer-keys", None, None, "A file with the keys that peers share, one a line; the first one signs."],
        ["peer-ca", None, None, "A file of who signs the peers' certificates. [default: the system's]"],
        ["peer-cert", None, None, "A file with the certificate that peers are shown. [default: none]"],
        ["peer-key", None, None, "A file with its key. [default: that of the certificate]"],
        ["name", None, None, "What peers call this daemon. [default: the name of the machine]"],
        ["grant-ack", None, "if-up", "Whether a peer must have it that a node is alone: if-up or required."],
        ["probe", None, None, "Seconds between probes of a node; needs --probe-allow. [default: none is probed]"],
        ["probe-rate", None, "100", "How many probes a second there are at most."],
        ["kv-create", None, "yes", "Whether an unknown consul-kv key makes its ID: yes or no."],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["open", None, "Serve everybody who reaches this daemon, from other machines too."],
        ["dns-open", None, "Answer DNS questions of everybody who knows an ID, though HTTP needs a token or is local."],
        ["kv-visible-claims", None, "Show a consul-kv claim before its leader reports itself, as Consul does."],
        ["strict-addresses", None, "Refuse addresses that other machines can hardly reach, instead of logging them."],
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._listen: list[str] = []
        self._hosts: list[str] = []
        self._dns: list[str] = []
        self._metrics_listen: list[str] = []
        self._peers: list[str] = []
        self._peer_listen: list[str] = []
        self._default_peers = environment.get("RQDISCO_PEER", "").split()
        self._default_peer_listen = environment.get("RQDISCO_PEER_LISTEN", "").split()
        self._default_metrics_listen = environment.get("RQDISCO_METRICS_LISTEN", "").split()
        self._probe_allow: list[str] = []
        self._default_probe_allow = environment.get("RQDISCO_PROBE_ALLOW", "").split()
        self._default_hosts = environment.get("RQDISCO_HOST", "").split()
        self._default_dns = environment.get("RQDISCO_DNS", "").split()
        self._default_listen = environment.get("RQDISCO_LISTEN", "").split() or [DEFAULT_LISTEN]
        self._runtime_directory = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self._default_directory = environment.get("STATE_DIRECTORY", "").split(":")[0] or "rqdisco-data"
        for name in (str(each[0]) for each in (*self.optParameters, *self.optFlags)):
            # What the environment sets is a default of its own, so that the command line wins.
            if text := environment.get("RQDISCO_" + name.upper().replace("-", "_")):
                self[name] = text

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: Twisted endpoint string, repeatable. [default:
        tcp:4000:interface=127.0.0.1:backlog=1000]
        """
        self._listen.append(endpoint)

    def opt_host(self, name: str) -> None:
        """A further name or IP that loopback requests may be for, repeatable; localhost and
        loopback IPs always are.
        """
        self._hosts.append(name)

    def opt_dns(self, address: str) -> None:
        """Where to answer DNS questions, over UDP and TCP: IP:PORT, repeatable. [default:
        nowhere]
        """
        self._dns.append(address)

    def opt_metrics_listen(self, endpoint: str) -> None:
        """Where to serve /metrics for Prometheus: Twisted endpoint string, repeatable. [default:
        nowhere]
        """
        self._metrics_listen.append(endpoint)

    def opt_probe_allow(self, cidr: str) -> None:
        """Addresses that may be probed: 10.0.0.0/16, repeatable. [default: none, nothing is
        probed]
        """
        self._probe_allow.append(cidr)

    def opt_peer(self, url: str) -> None:
        """The URL of a peer, repeatable; one is enough to learn of the others. [default: none]"""
        self._peers.append(url)

    def opt_peer_listen(self, endpoint: str) -> None:
        """Where to listen for peers: Twisted endpoint string, repeatable. [default: nowhere]"""
        self._peer_listen.append(endpoint)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse; a bad option ends the process with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            print(f"rqdisco: {error} (see twistd rqdisco --help)", file=sys.stderr)
            raise SystemExit(USAGE_STATUS) from None

    def postOptions(self) -> None:
        tokens = self._path("tokens")
        if tokens is not None and self._flag("open"):
            raise usage.UsageError("open: everybody is served, or only who has one of the --tokens; say one of the two")
        dns = self._dns_config(self._dns or self._default_dns)
        if dns is not None and not self._flag("dns-open"):
            self._check_dns(dns, tokens)
        self.config = Config(
            tokens=tokens,
            is_open=self._flag("open"),
            listen=tuple(self._listen or self._default_listen),
            hosts=tuple(own_host(each) for each in self._hosts or self._default_hosts),
            metrics_listen=tuple(self._metrics_listen or self._default_metrics_listen),
            operator_socket=self._operator_socket(),
            data_dir=Path(self["data-dir"] or self._default_directory).absolute(),
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
            snapshot_every=self._number("snapshot-every", 1.0),
            drain_timeout=self._number("drain-timeout", 0.0),
            audit=Path(self["audit"]).absolute() if self["audit"] else None,
            bounds=Bounds(
                create_rate=self._number("create-rate", 0.0),
                client_rate=self._number("client-rate", 0.0),
                connections=None if self["max-connections"] is None else int(self._number("max-connections", 1)),
                client_connections=int(self._number("max-client-connections", 1)),
            ),
            disk_reserve=None if self["disk-reserve"] is None else bytes_of("disk-reserve", self["disk-reserve"]),
            dns=dns,
            peers=self._peer_config(self._peers or self._default_peers, self._peer_listen or self._default_peer_listen),
            probing=self._probe_config(self._probe_allow or self._default_probe_allow),
        )

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
                raise usage.UsageError(f"{name}: must be set where there are peers")
        if self["peer-key"] and not self["peer-cert"]:
            raise usage.UsageError("peer-key: must be the key of a --peer-cert")
        if self["grant-ack"] not in ("if-up", "required"):
            raise usage.UsageError(f"grant-ack: {self['grant-ack']!r} is neither if-up nor required")
        name = self["name"] or socket.gethostname()
        if not _NAME.match(name):
            raise usage.UsageError(f"name: {name!r} is not 1 to 64 letters, digits, dots, underscores and hyphens")
        return PeerConfig(
            name=name,
            advertise=peer_url("advertise", self["advertise"]),
            listen=tuple(listen),
            seeds=tuple(peer_url("peer", url) for url in seeds),
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
                raise usage.UsageError("probe-allow: nothing is probed without --probe, the seconds between probes")
            return None
        if not allowed:
            raise usage.UsageError(
                "probe: needs --probe-allow, the addresses where nodes are (10.0.0.0/16): whoever registers a node says"
                " where this daemon connects to"
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
            raise usage.UsageError("dns: needs no token: say --dns-open if who knows an ID may read its nodes so")
        beyond = [host for host, _ in dns.addresses if not ipaddress.ip_address(host).is_loopback]
        if beyond and not self._flag("open"):
            raise usage.UsageError(
                f"dns: {beyond[0]} can be asked from other machines: say --dns-open, or --open, if they may"
            )

    def _dns_config(self, addresses: list[str]) -> DNSConfig | None:
        if not addresses:
            if self["dns-zone"] is not None:
                raise usage.UsageError("dns-zone: nobody answers for it without --dns, the address to answer on")
            return None
        if self["dns-zone"] is None:
            raise usage.UsageError("dns: needs --dns-zone, the zone to answer for")
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
