"""Builds the daemon's configuration from the values of its options, validated together."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from twisted.python import usage

from rqdisco.backends.limits import Limits
from rqdisco.core.dns_labels import is_zone_name
from rqdisco.core.host_ports import is_host_name
from rqdisco.dns.zone import SERVICES, Zone
from rqdisco.security.certificates import Files
from rqdisco.service.config import (
    Bounds,
    Config,
    DNSConfig,
    LogConfig,
    LogFormat,
    LogLevelName,
    PeerConfig,
    ProbeConfig,
)
from rqdisco.service.etcd_options import etcd_config
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

_FEWEST_DAYS = 1 / 24
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def build_config(values: Mapping[str, Any], environment: Mapping[str, str], default_directory: str) -> Config:
    """Return the configuration. Raises UsageError, whose text begins with the name of an option."""
    return _Builder(values, environment, default_directory).build()


class _Builder:
    """Validates values by the names of their options."""

    def __init__(self, values: Mapping[str, Any], environment: Mapping[str, str], default_directory: str) -> None:
        self._values = values
        self._environment = environment
        self._default_directory = default_directory

    def build(self) -> Config:
        values, tokens = self._values, self._path("tokens")
        if tokens is not None and self._flag("open"):
            raise usage.UsageError("open: cannot be combined with --tokens")
        dns = self._dns_config(values["dns"])
        if dns is not None and not self._flag("dns-open"):
            self._check_dns(dns, tokens)
        etcd = etcd_config(values)
        return Config(
            tokens=tokens,
            is_open=self._flag("open"),
            listen=values["listen"],
            hosts=tuple(map(own_host, values["host"])),
            metrics_listen=values["metrics-listen"],
            operator_socket=self._operator_socket(),
            data_dir=self._data_dir(is_needed=etcd is None),
            limits=Limits(
                retry_window_ms=int(1000 * self._number("retry-window", 0.0)),
                max_ids=None if values["max-ids"] is None else int(self._number("max-ids", 0)),
                max_nodes=int(self._number("max-nodes", 1)),
                create_named=self._flag("kv-create"),
                visible_claims=self._flag("kv-visible-claims"),
            ),
            unused_days=None if values["expire-unused"] is None else self._number("expire-unused", _FEWEST_DAYS),
            strict_addresses=self._flag("strict-addresses"),
            max_body=int(self._number("max-body", 64)),
            snapshot_every=number("snapshot-every", values["snapshot-every"] or "300", 1.0),
            drain_timeout=self._number("drain-timeout", 0.0),
            audit=Path(values["audit"]).absolute() if values["audit"] else None,
            bounds=Bounds(
                create_rate=self._number("create-rate", 0.0),
                client_rate=self._number("client-rate", 0.0),
                connections=None if values["max-connections"] is None else int(self._number("max-connections", 1)),
                client_connections=int(self._number("max-client-connections", 1)),
            ),
            trusted_proxies=tuple(map(proxy_network, values["trusted-proxy"])),
            idle_timeout=self._number("idle-timeout", 1.0),
            disk_reserve=None if values["disk-reserve"] is None else bytes_of("disk-reserve", values["disk-reserve"]),
            dns=dns,
            peers=None if etcd is not None else self._peer_config(values["peer"], values["peer-listen"]),
            etcd=etcd,
            probing=self._probe_config(values["probe-allow"]),
            log=LogConfig(format=self._log_format(), level=self._log_level()),
        )

    def _data_dir(self, *, is_needed: bool) -> Path | None:
        state = self._environment.get("STATE_DIRECTORY", "").split(":")[0]
        path = self._values["data-dir"] or state or (self._default_directory if is_needed else None)
        return None if path is None else Path(path).absolute()

    def _operator_socket(self) -> Path | None:
        runtime = self._environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
        default = f"{runtime}/operator.sock" if runtime else "off"
        path = self._values["operator-socket"] or default
        return None if path == "off" else Path(path).absolute()

    def _peer_config(self, seeds: Sequence[str], listen: Sequence[str]) -> PeerConfig | None:
        tls = [name for name in ("peer-ca", "peer-cert", "peer-key") if self._values[name]]
        needed = {"peer-listen": listen, "advertise": self._values["advertise"], "peer-keys": self._values["peer-keys"]}
        if not seeds and not any(needed.values()) and not tls:
            return None
        for name, value in needed.items():
            if not value:
                raise usage.UsageError(f"{name}: required with peers")
        if self._values["peer-key"] and not self._values["peer-cert"]:
            raise usage.UsageError("peer-key: requires --peer-cert")
        if self._values["grant-ack"] not in ("if-up", "required"):
            raise usage.UsageError(f"grant-ack: {self._values['grant-ack']!r} is neither if-up nor required")
        name = self._values["name"] or socket.gethostname()
        if not _NAME.match(name):
            raise usage.UsageError(f"name: {name!r} is not 1 to 64 letters, digits, dots, underscores and hyphens")
        return PeerConfig(
            name=name,
            advertise=service_url("advertise", self._values["advertise"]),
            listen=tuple(listen),
            seeds=tuple(service_url("peer", url) for url in seeds),
            keys=Path(self._values["peer-keys"]).absolute(),
            ack_required=self._values["grant-ack"] == "required",
            tls=Files(
                key=self._path("peer-key") or self._path("peer-cert"),
                certificate=self._path("peer-cert"),
                authorities=self._path("peer-ca"),
            ),
        )

    def _probe_config(self, allowed: Sequence[str]) -> ProbeConfig | None:
        if self._values["probe"] is None:
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
        return None if self._values[name] is None else Path(self._values[name]).absolute()

    def _check_dns(self, dns: DNSConfig, tokens: Path | None) -> None:
        if tokens is not None:
            raise usage.UsageError(
                "dns: DNS queries carry no token; set --dns-open to let every client that knows an ID read its nodes"
            )
        beyond = [host for host, _ in dns.addresses if not ipaddress.ip_address(host).is_loopback]
        if beyond and not self._flag("open"):
            raise usage.UsageError(f"dns: other machines can reach {beyond[0]}; set --dns-open or --open to allow them")

    def _dns_config(self, addresses: Sequence[str]) -> DNSConfig | None:
        if not addresses:
            if self._values["dns-zone"] is not None:
                raise usage.UsageError("dns-zone: requires --dns, the address to answer on")
            return None
        if self._values["dns-zone"] is None:
            raise usage.UsageError("dns: requires --dns-zone, the zone to answer for")
        zone = host_name("dns-zone", self._values["dns-zone"], is_zone_name)
        nameserver = self._values["dns-nameserver"]
        return DNSConfig(
            addresses=tuple(map(ip_and_port, addresses)),
            zone=Zone(zone, {**SERVICES, **aliases(self._values["dns-aliases"])}),
            nameserver=None if nameserver is None else host_name("dns-nameserver", nameserver, is_host_name),
            rate=self._number("dns-rate", 0.0),
        )

    def _number(self, name: str, least: float) -> float:
        return number(name, self._values[name], least)

    def _flag(self, name: str) -> bool:
        return parse_flag(name, str(self._values[name]))

    def _log_format(self) -> LogFormat | None:
        text = self._values["log-format"]
        if text not in (None, "text", "json"):
            raise usage.UsageError(f"log-format: {text!r} is neither text nor json")
        chosen: LogFormat | None = text
        return chosen

    def _log_level(self) -> LogLevelName:
        text = self._values["log-level"]
        if text not in get_args(LogLevelName):
            raise usage.UsageError(f"log-level: {text!r} is none of {', '.join(get_args(LogLevelName))}")
        level: LogLevelName = text
        return level
