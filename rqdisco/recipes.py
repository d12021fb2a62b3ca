"""What to give rqlited so that it finds its cluster here: its flags, quoted for where they are
pasted.

Pure: a recipe is asked for, its arguments and what else there is to know come out. What a version
of rqlited cannot do is refused in words.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Literal, get_args
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from rqdisco.core.addresses import is_local, split_zone
from rqdisco.core.dns_labels import dns_labels, is_zone_name
from rqdisco.core.ids import may_be_named

Mode = Literal["legacy", "consul-kv", "dns", "dns-srv"]
Target = Literal["shell", "systemd", "compose", "k8s"]
MODES: tuple[Mode, ...] = get_args(Mode)
TARGETS: tuple[Target, ...] = get_args(Target)
DEFAULT_EXPECT = 3

_ANY = 1 << 30
_VERSION = re.compile(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Impossible(ValueError):
    """A recipe that this version of rqlited cannot be given; the text says why and what would
    work.
    """


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    `version` is that of rqlited, "8.36.3" or as little of it as is known: "8" is its newest. `url`
    is the service's. `zone` is the DNS zone, `expect` how many nodes form the cluster, `port` the
    nodes' own where it is not the default; all three are for the DNS modes only. A `replica` is a
    read replica, a node without a vote.
    """

    discovery_id: str
    version: str
    mode: Mode
    url: str
    zone: str | None = None
    expect: int | None = None
    port: int | None = None
    replica: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of rqlited, one flag each, not yet quoted; and notes for whoever pastes them, one
    sentence each.
    """

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()


_Version = tuple[int, int, int]


def recipe(wanted: Wanted) -> Recipe:
    """The recipe for what is wanted. Raises Impossible."""
    if not may_be_named(wanted.discovery_id):
        raise Impossible("not a discovery ID: up to 64 letters, digits, dots, '-' and '_'")
    version = _version(wanted.version)
    if version < (3, 12, 0):
        raise Impossible(f"rqlite {wanted.version} knows no discovery, it came with 3.12")
    if wanted.mode == "legacy":
        return _legacy(wanted, version)
    if wanted.mode == "consul-kv":
        return _consul_kv(wanted, version)
    return _dns(wanted, version)


def quoted(target: Target, arguments: Sequence[str]) -> str:
    """The arguments as they are pasted: words of a line for shell and systemd, a member of YAML for
    the others.
    """
    if target == "shell":
        return shlex.join(arguments)
    if target == "systemd":
        return " ".join(map(_systemd_word, arguments))
    member = "command" if target == "compose" else "args"
    # Both write $$ for $. Kubernetes would leave a $ alone that no parenthesis follows, but takes
    # $$ for $ anywhere.
    return "\n".join([f"{member}:", *(f"  - {_yaml_string(text.replace('$', '$$'))}" for text in arguments)])


def _legacy(wanted: Wanted, version: _Version) -> Recipe:
    if not (3, 12, 0) <= version < (7, 0, 0):
        raise Impossible(f"legacy mode is for rqlite 3.12 to 6.10, use consul-kv with {wanted.version}")
    _only_for_dns(wanted)
    _service(wanted.url)
    if wanted.replica and version < (5, 1, 0):
        raise Impossible(f"rqlite {wanted.version} has no read replicas, they came with 5.1")
    url_flag, id_flag = ("-disco", "-discoid") if version < (4, 0, 0) else ("-disco-url", "-disco-id")
    address_flag = "-httpadv" if version < (4, 0, 0) else "-http-adv-addr"
    return Recipe(
        arguments=(
            f"{url_flag}={_with_zone(wanted.url).rstrip('/')}",
            f"{id_flag}={wanted.discovery_id}",
            *_suffrage(wanted),
        ),
        notes=(
            *_loopback_note(wanted.url),
            f"give each node the address that the others reach it by: {address_flag}=HOST:PORT",
            "rqlited asks once and exits if the service is away: run `rqdisco status --service --wait 120` before it",
            *_legacy_notes(wanted),
        ),
    )


def _legacy_notes(wanted: Wanted) -> list[str]:
    notes = []
    if wanted.url.startswith("https:"):
        notes.append("rqlited trusts the system's authorities only, or those in the file that SSL_CERT_FILE names")
    if wanted.replica:
        notes.append(
            "start replicas when the cluster has formed: a replica that is told to bootstrap does so, as a voter"
        )
    return notes


def _consul_kv(wanted: Wanted, version: _Version) -> Recipe:
    if version < (7, 0, 0):
        raise Impossible(f"rqlite {wanted.version} knows no consul-kv mode, use legacy")
    _only_for_dns(wanted)
    url, port = _service(wanted.url)
    if url.path.strip("/"):
        raise Impossible("consul-kv takes a host and a port, the URL of the service must not have a path")
    host = str(url.hostname)
    if version >= (7, 4, 0) and host.startswith("http"):
        raise Impossible(
            f"rqlite {wanted.version} refuses an address that begins with http, use another name or the IP"
        )
    zone = _split_zone(wanted.url)[1]
    # Unlike in a URL, the zone is not escaped.
    ipv6 = host if zone is None else f"{host}%{zone}"
    config: dict[str, object] = {"address": f"[{ipv6}]:{port}" if ":" in host else f"{host}:{port}"}
    if url.scheme == "https":
        config["schema" if version == (7, 0, 0) else "scheme"] = "https"
    if url.username is not None:
        config["basic_auth"] = _basic_auth(url, version)
    return Recipe(
        arguments=(
            "-disco-mode=consul-kv",
            f"-disco-key={wanted.discovery_id}",
            f"-disco-config={_compact(config)}",
            *_suffrage(wanted),
        ),
        notes=(
            *_loopback_note(wanted.url),
            "give each node a -node-id that stays, and addresses that the others reach it by: -http-addr, -raft-addr",
            *(_tls_notes(version) if url.scheme == "https" else ()),
            *(_replica_notes(version) if wanted.replica else ()),
        ),
    )


def _tls_notes(version: _Version) -> list[str]:
    # Up to 7.13.1 what is given as ca_file is overwritten by cert_file, given or not.
    if version < (7, 13, 2):
        member, why = '"ca_pem":"BASE64"', " with its PEM in base64: before 7.13.2 rqlited does not heed ca_file"
    else:
        member, why = '"ca_file":"/PATH"', ""
    trust = "rqlited trusts the system's authorities, for a private one add"
    notes = [f'{trust} "tls_config":{{{member}}} to -disco-config{why}']
    if (7, 0, 0) < version < (7, 1, 0) and version[2] == _ANY:
        notes.append('rqlite 7.0.0 itself wants "schema" for "scheme": say --rqlite 7.0.0 if you have that')
    return notes


def _replica_notes(version: _Version) -> list[str]:
    if version < (8, 14, 0):
        return ["start replicas when the cluster has formed: a replica that wins the claim bootstraps, as a voter"]
    return ["a replica never claims to lead, it waits for a leader"]


def _dns(wanted: Wanted, version: _Version) -> Recipe:
    if version < (7, 2, 0):
        raise Impossible(f"rqlite {wanted.version} knows no {wanted.mode} mode, it needs 7.2 or later")
    if wanted.replica and version < (8, 14, 1):
        # Before 8.14.0 rqlited does not start, with -bootstrap-expect or without; with 8.14.0 it
        # joins as a voter.
        raise Impossible(
            f"rqlite {wanted.version} has no read replicas in {wanted.mode} mode, 8.14.1 and later have, and consul-kv"
        )
    by_raft = version >= (8, 0, 0)
    name = f"{dns_labels(wanted.discovery_id)}.{_zone(wanted)}."
    config: dict[str, object] = {"name": name}
    if wanted.mode == "dns-srv":
        if wanted.port is not None:
            raise Impossible("dns-srv takes the port from the SRV record, leave it out")
        config["service"] = "rqlite-raft" if by_raft else "rqlite-http"
    elif wanted.port is not None:
        if not 0 < wanted.port < 65536:
            raise Impossible("not a port, it must be between 1 and 65535")
        config["port"] = wanted.port
    return Recipe(
        arguments=(
            f"-disco-mode={wanted.mode}",
            f"-disco-config={_compact(config)}",
            *_suffrage(wanted),
            *_expect(wanted),
        ),
        notes=tuple(_dns_notes(wanted, version, by_raft)),
    )


def _expect(wanted: Wanted) -> tuple[str, ...]:
    """How many nodes form the cluster. rqlited refuses to start a replica that is told."""
    if wanted.replica:
        if wanted.expect is not None:
            raise Impossible("a read replica takes no -bootstrap-expect, rqlited would not start")
        return ()
    expect = DEFAULT_EXPECT if wanted.expect is None else wanted.expect
    if expect < 1:
        raise Impossible("a cluster has at least one node to expect")
    return (f"-bootstrap-expect={expect}",)


def _suffrage(wanted: Wanted) -> tuple[str, ...]:
    return ("-raft-non-voter",) if wanted.replica else ()


def _dns_notes(wanted: Wanted, version: _Version, by_raft: bool) -> list[str]:
    needed = " --raft-addr HOST:RAFTPORT --node-id NODE" if by_raft else ""
    if wanted.replica:
        notes = [
            "a replica joins the nodes that are registered and need not be registered itself: before the cluster has"
            " formed the others would wait for it",
            "the host's resolver must know the zone",
        ]
    else:
        notes = [
            f"nodes do not register themselves in {wanted.mode} mode: run"
            f" `rqdisco register {wanted.discovery_id} HOST:HTTPPORT{needed} --wait 120` before each node starts",
            "all nodes need the same -bootstrap-expect, and the host's resolver must know the zone",
        ]
    if wanted.mode == "dns" and wanted.port is None:
        port = "the node's own Raft port" if by_raft else "4001, the HTTP port"
        notes.append(f"the port is {port}, unless another is given")
    if version < (8, 12, 2):
        notes.append(f"rqlite {wanted.version} cannot use IPv6 addresses from DNS, 8.12.2 and later can")
    return notes


def _version(text: str) -> _Version:
    match = _VERSION.match(text)
    if match is None:
        raise Impossible("not a version of rqlite, say 8 or 7.21.4")
    major, minor, patch = (_ANY if part is None else int(part) for part in match.groups())
    return major, minor, patch


def _service(url: str) -> tuple[SplitResult, int]:
    """The URL taken apart, without the zone of an IPv6 address, and the port."""
    plain, _ = _split_zone(url)
    try:
        split = urlsplit(plain)
        port = split.port
    except ValueError:
        # Its own words may repeat a part of a password.
        raise Impossible("not a URL: http://HOST:PORT, with %2F for a / in a password") from None
    if split.scheme == "unix":
        raise Impossible("rqlited cannot ask over a UNIX socket, give the http:// or https:// URL of the service")
    if split.scheme not in _DEFAULT_PORTS or not split.hostname or split.query or split.fragment:
        raise Impossible("the URL of the service must be http://HOST:PORT or https://HOST:PORT")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise Impossible("the URL of the service must not have white space or control characters")
    return split, _DEFAULT_PORTS[split.scheme] if port is None else port


def _split_zone(url: str) -> tuple[str, str | None]:
    try:
        return split_zone(url)
    except ValueError as error:
        raise Impossible(str(error)) from None


def _with_zone(url: str) -> str:
    """The URL as Go reads it: `%` begins an escape in a URL."""
    plain, zone = _split_zone(url)
    return url if zone is None else plain.replace("]", f"%25{zone}]", 1)


def _basic_auth(url: SplitResult, version: _Version) -> dict[str, str]:
    auth = {"username": unquote(url.username or ""), "password": unquote(url.password or "")}
    # rqlited expands environment variables in the whole configuration, and there is no way to quote
    # a $.
    if version >= (7, 16, 0) and any("$" in text for text in auth.values()):
        raise Impossible("rqlite 7.16 and later drop what follows a $ in user and password, use others")
    return auth


def _zone(wanted: Wanted) -> str:
    if not wanted.zone:
        raise Impossible(f"{wanted.mode} needs the DNS zone that the service answers for")
    name = wanted.zone.rstrip(".").lower()
    if not is_zone_name(name):
        raise Impossible("not a DNS zone of 110 characters at most, say disco.example")
    return name


def _only_for_dns(wanted: Wanted) -> None:
    if wanted.expect is not None:
        raise Impossible(f"-bootstrap-expect does not go with {wanted.mode}, leave it out")
    if wanted.port is not None or wanted.zone is not None:
        raise Impossible(f"{wanted.mode} takes no DNS zone and no port of the nodes, they are for the DNS modes")


def _loopback_note(url: str) -> tuple[str, ...]:
    host = urlsplit(url).hostname
    return (f"other machines cannot reach the service at {host}",) if host and is_local(url) else ()


def _compact(config: dict[str, object]) -> str:
    return json.dumps(config, separators=(",", ":"))


_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=@,-]+\Z")


def _systemd_word(text: str) -> str:
    if _PLAIN_WORD.match(text):
        return text
    escaped = "".join(_systemd_character(character) for character in text)
    return f"'{escaped}'"


def _systemd_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character in "%$":
        return character * 2
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _yaml_string(text: str) -> str:
    """JSON, which YAML reads too, but for what it takes neither raw nor as a pair of surrogates."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(
        character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
        for character in written
    )
