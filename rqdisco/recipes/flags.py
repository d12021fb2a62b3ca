"""The flags with which each version of rqlited finds its cluster through rqdisco. Pure."""

from __future__ import annotations

import json
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from rqdisco.core.addresses import is_local
from rqdisco.core.dns_labels import is_zone_name, to_dns_labels
from rqdisco.core.ids import is_id, is_uuid, is_valid_name
from rqdisco.recipes.parsing import (
    ANY,
    Unsupported,
    Version,
    basic_auth,
    parse_service_url,
    parse_version,
    split_url_zone,
    with_zone,
)

Mode = Literal["legacy", "consul-kv", "dns", "dns-srv"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_EXPECT = 3


class FlagsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for flags. `zone`, `expect` and `port` are for the DNS modes only."""

    discovery_id: str
    # Of rqlited: "8.36.3", or a prefix, which means the newest release with that prefix.
    version: str
    mode: Mode
    # The URL of the service.
    url: str
    # The DNS zone of the service.
    zone: str | None = None
    # How many nodes form the cluster.
    expect: int | None = None
    # The port of the nodes, None for the default.
    port: int | None = None
    # Whether the flags are for a read replica, a non-voter.
    replica: bool = False
    # Whether the ID is known to exist.
    exists: bool = False
    # Whether the flags become part of a complete command, so that notes about the rest are left out.
    is_complete: bool = False


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """Unquoted arguments of rqlited, one flag each, and notes for the user, one sentence each."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()


def make_flags(request: FlagsRequest) -> Flags:
    """Return the flags for a request. Raises Unsupported."""
    if not is_id(request.discovery_id):
        raise Unsupported("not a discovery ID: up to 64 letters, digits, dots, '-' and '_'")
    if not is_valid_name(request.discovery_id):
        raise Unsupported(f"{request.discovery_id} is a reserved name: the service uses it for its own paths")
    version = parse_version(request.version)
    if version < (3, 12, 0):
        raise Unsupported(f"rqlite {request.version} has no discovery: use 3.12 or later")
    if request.mode == "legacy":
        return _legacy(request, version)
    if request.mode == "consul-kv":
        return _consul_kv(request, version)
    return _dns(request, version)


def usual_mode(version: str) -> Mode:
    """Return the mode for a version where nothing asks for DNS. Raises Unsupported."""
    return "legacy" if parse_version(version) < (7, 0, 0) else "consul-kv"


def _legacy(request: FlagsRequest, version: Version) -> Flags:
    if not (3, 12, 0) <= version < (7, 0, 0):
        raise Unsupported(f"legacy mode is for rqlite 3.12 to 6.10: use consul-kv with {request.version}")
    _only_for_dns(request)
    parse_service_url(request.url)
    if request.replica and version < (5, 1, 0):
        raise Unsupported(f"rqlite {request.version} has no read replicas: use 5.1 or later")
    url_flag, id_flag = ("-disco", "-discoid") if version < (4, 0, 0) else ("-disco-url", "-disco-id")
    address_flag = "-httpadv" if version < (4, 0, 0) else "-http-adv-addr"
    return Flags(
        arguments=(
            f"{url_flag}={with_zone(request.url).rstrip('/')}",
            f"{id_flag}={request.discovery_id}",
            *_suffrage(request),
        ),
        notes=(
            *_name_note(request),
            *_address_notes(
                request, f"give each node the address that other nodes reach it by: {address_flag}=HOST:PORT"
            ),
            *_token_note(request, "print the flags with --url http://x:TOKEN@HOST:PORT"),
            "rqlited exits if the service is down when it starts: run `rqdisco status --service --wait 120` before it",
            *_legacy_notes(request),
        ),
    )


def _legacy_notes(request: FlagsRequest) -> list[str]:
    notes = []
    if request.url.startswith("https:"):
        notes.append("rqlited trusts only the system's CAs, or those in the file named by SSL_CERT_FILE")
    if request.replica:
        notes.append(
            "start replicas after the cluster has formed: a replica that is told to bootstrap does so, as a voter"
        )
    return notes


def _consul_kv(request: FlagsRequest, version: Version) -> Flags:
    if version < (7, 0, 0):
        raise Unsupported(f"rqlite {request.version} has no consul-kv mode: use legacy")
    _only_for_dns(request)
    url, port = parse_service_url(request.url)
    if url.path.strip("/"):
        raise Unsupported("consul-kv takes a host and a port: remove the path from the URL of the service")
    host = str(url.hostname)
    if version >= (7, 4, 0) and host.startswith("http"):
        raise Unsupported(
            f"rqlite {request.version} refuses addresses that start with http: use another name or the IP address"
        )
    zone = split_url_zone(request.url)[1]
    # The zone is not escaped, unlike in a URL.
    ipv6 = host if zone is None else f"{host}%{zone}"
    config: dict[str, object] = {"address": f"[{ipv6}]:{port}" if ":" in host else f"{host}:{port}"}
    if url.scheme == "https":
        config["schema" if version == (7, 0, 0) else "scheme"] = "https"
    if url.username is not None:
        config["basic_auth"] = basic_auth(url, version)
    return Flags(
        arguments=(
            "-disco-mode=consul-kv",
            f"-disco-key={request.discovery_id}",
            f"-disco-config={_compact_json(config)}",
            *_suffrage(request),
        ),
        notes=(
            *_name_note(request),
            *_address_notes(
                request,
                "give each node a permanent -node-id, and addresses that other nodes reach it by: -http-addr,"
                " -raft-addr",
            ),
            *_token_note(request, "set CONSUL_HTTP_TOKEN in the environment of each node"),
            *(_tls_notes(version) if url.scheme == "https" else ()),
            *(_replica_notes(version) if request.replica else ()),
        ),
    )


def _tls_notes(version: Version) -> list[str]:
    # Up to 7.13.1 cert_file, set or not, overwrites ca_file.
    if version < (7, 13, 2):
        member, why = '"ca_pem":"BASE64"', " with its PEM in base64, since rqlited before 7.13.2 ignores ca_file"
    else:
        member, why = '"ca_file":"/PATH"', ""
    trust = "rqlited trusts the system's CAs; for a private one add"
    notes = [f'{trust} "tls_config":{{{member}}} to -disco-config{why}']
    if (7, 0, 0) < version < (7, 1, 0) and version[2] == ANY:
        notes.append('rqlite 7.0.0 calls "scheme" "schema": use --rqlite 7.0.0 for it')
    return notes


def _replica_notes(version: Version) -> list[str]:
    if version < (8, 14, 0):
        return ["start replicas after the cluster has formed: a replica that wins the claim bootstraps, as a voter"]
    return ["a replica never claims to lead: it waits for a leader"]


def _dns(request: FlagsRequest, version: Version) -> Flags:
    if version < (7, 2, 0):
        raise Unsupported(f"rqlite {request.version} has no {request.mode} mode: use 7.2 or later")
    if request.replica and version < (8, 14, 1):
        # Before 8.14.0 such a rqlited does not start, with or without -bootstrap-expect; 8.14.0
        # joins as a voter.
        raise Unsupported(
            f"rqlite {request.version} has no read replicas in {request.mode} mode: use 8.14.1 or later, or consul-kv"
        )
    by_raft = version >= (8, 0, 0)
    name = f"{to_dns_labels(request.discovery_id)}.{_zone(request)}."
    config: dict[str, object] = {"name": name}
    if request.mode == "dns-srv":
        if request.port is not None:
            raise Unsupported("dns-srv takes the port from the SRV record: leave out the port")
        config["service"] = "rqlite-raft" if by_raft else "rqlite-http"
    elif request.port is not None:
        if not 0 < request.port < 65536:
            raise Unsupported("not a port: use 1 to 65535")
        config["port"] = request.port
    return Flags(
        arguments=(
            f"-disco-mode={request.mode}",
            f"-disco-config={_compact_json(config)}",
            *_suffrage(request),
            *_expect(request),
        ),
        notes=(*_name_note(request), *_dns_notes(request, version, by_raft)),
    )


def _expect(request: FlagsRequest) -> tuple[str, ...]:
    """Return -bootstrap-expect. With it rqlited refuses to start a replica."""
    if request.replica:
        if request.expect is not None:
            raise Unsupported("a read replica takes no -bootstrap-expect: rqlited would not start")
        return ()
    expect = DEFAULT_EXPECT if request.expect is None else request.expect
    if expect < 1:
        raise Unsupported("expect at least one node")
    return (f"-bootstrap-expect={expect}",)


def _name_note(request: FlagsRequest) -> tuple[str, ...]:
    """Tell how an ID that somebody named comes into being: a daemon already made up any other."""
    if request.exists or is_uuid(request.discovery_id):
        return ()
    create = f"`rqdisco create --name {request.discovery_id}`"
    if request.mode != "consul-kv":
        return (f"create the ID first: {create}",)
    return (
        f"if several daemons replicate to each other, create the ID first: {create}; nodes create a new one only"
        " while all daemons are up",
    )


def _token_note(request: FlagsRequest, how: str) -> tuple[str, ...]:
    """Tell how nodes send a token, unless the URL has it."""
    if request.is_complete or urlsplit(split_url_zone(request.url)[0]).username is not None:
        return ()
    return (f"if the service requires tokens, {how}",)


def _suffrage(request: FlagsRequest) -> tuple[str, ...]:
    return ("-raft-non-voter",) if request.replica else ()


def _dns_notes(request: FlagsRequest, version: Version, by_raft: bool) -> list[str]:
    needed = " --raft-addr HOST:RAFTPORT --node-id NODE" if by_raft else ""
    if request.replica:
        notes = [
            "do not register a replica: it joins the registered nodes, and before the cluster has formed these would"
            " wait for it",
            "the host's resolver must resolve the zone",
        ]
    else:
        register = (
            f"rqlited does not register itself in {request.mode} mode: run"
            f" `rqdisco register {request.discovery_id} HOST:HTTPPORT{needed} --wait 120` before each node starts"
        )
        notes = [
            *([] if request.is_complete else [register]),
            "give all nodes the same -bootstrap-expect, and the host's resolver must resolve the zone",
        ]
    if request.mode == "dns" and request.port is None:
        port = "the node's own Raft port" if by_raft else "4001, the HTTP port"
        notes.append(f"the port is {port}, unless you set another one")
    if version < (8, 12, 2):
        notes.append(f"rqlite {request.version} cannot use IPv6 addresses from DNS: use 8.12.2 or later")
    return notes


def _zone(request: FlagsRequest) -> str:
    if not request.zone:
        raise Unsupported(f"{request.mode} needs the DNS zone of the service: set --dns-zone")
    name = request.zone.rstrip(".").lower()
    if not is_zone_name(name):
        raise Unsupported("not a DNS zone: use a name of at most 110 characters, such as disco.example")
    return name


def _only_for_dns(request: FlagsRequest) -> None:
    if request.expect is not None:
        raise Unsupported(f"{request.mode} takes no -bootstrap-expect: leave it out")
    if request.port is not None or request.zone is not None:
        raise Unsupported(f"{request.mode} takes no DNS zone and no port: they are for the DNS modes")


def _address_notes(request: FlagsRequest, note: str) -> tuple[str, ...]:
    if request.is_complete:
        return ()
    host = urlsplit(request.url).hostname
    return (f"other machines cannot reach the service at {host}", note) if host and is_local(request.url) else (note,)


def _compact_json(config: dict[str, object]) -> str:
    return json.dumps(config, separators=(",", ":"))
