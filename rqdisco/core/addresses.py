"""Check, compare and classify the addresses that nodes advertise.

An address is stored as opaque text. `same_node` compares two as rqlited does, `is_local` recognizes
those that lead every machine to itself. `host_ports` parses addresses for probes and DNS.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from rqdisco.core.errors import InvalidValue, MisleadingAddress

# Limit for an address or a node ID.
MAX_TEXT_BYTES = 260
# The names of the loopback interface in the hosts files of Debian, Red Hat and SUSE, and RFC 6761
# section 6.3.
_LOCAL_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "ipv6-localhost", "ipv6-loopback"}
    | {"localhost4", "localhost4.localdomain4", "localhost6", "localhost6.localdomain6"}
)
# Four parts or fewer, as inet_aton(3) accepts them.
_LOOPBACK_IPV4 = re.compile(r"127(?:\.[0-9]{1,3}){1,3}\Z")
# An IPv4 address that is neither loopback nor unspecified, with a port that may be too high.
OTHER_IPV4 = re.compile(r"(?!127\.|0\.0\.0\.0:)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}:([0-9]{1,5})\Z")
_SCHEME = re.compile(r"\A[a-z][a-z0-9+.-]*://")
_AUTHORITY_END = re.compile("[/?#]")
_PLAIN = re.compile(r"[A-Za-z0-9._:/\[\]-]{1,260}\Z")
_ZONE = re.compile(r"([A-Za-z]+://(?:[^/?#@]*@)?\[[0-9A-Fa-f:.]+)%(?:25)?([^\]/?#]*)\]")
_ZONE_NAME = re.compile(r"[A-Za-z0-9._~-]+\Z")
_HOST_PORT = re.compile(r"(?:https?://)?(\[[^\[\]/?#@]+\]|[^\[\]:/?#@]+):([0-9]{1,5})/?\Z")


def check_text(what: str, value: object) -> str:
    """Return `value` if it can be stored and returned byte-identical.

    Raises InvalidValue unless it is a string of 1 to 260 bytes without white space, control
    characters and lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidValue(what, "not a string")
    if _PLAIN.match(value):
        return value
    if not value:
        raise InvalidValue(what, "empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidValue(what, "not valid Unicode") from None
    if size > MAX_TEXT_BYTES:
        raise InvalidValue(what, f"longer than {MAX_TEXT_BYTES} bytes")
    for character in value:
        if character.isspace():
            raise InvalidValue(what, "contains white space")
        if unicodedata.category(character) == "Cc":
            raise InvalidValue(what, "contains a control character")
    return value


def same_node(one: str, other: str) -> bool:
    """Report whether rqlited at one of the addresses would take the other for its own, and drop it
    from its list (R3).

    Up to 6.8.0 it drops its own address, from 6.8.1 on also its own address behind http:// (rqlite
    cmd/rqlited).
    """
    return one in same_addresses(other)


def same_addresses(addr: str) -> tuple[str, ...]:
    """Return all addresses that `same_node` equates with `addr`."""
    bare = addr.removeprefix("http://")
    return (addr, f"http://{addr}") if bare == addr else (addr, f"http://{addr}", bare)


def host_and_port(addr: str) -> tuple[str, int]:
    """Split HOST:PORT, with or without http:// or https://. Raises InvalidValue."""
    match = _HOST_PORT.match(addr)
    if match is None:
        raise InvalidValue("address", "not host:port")
    port = int(match[2])
    if not 0 < port < 65536:
        raise InvalidValue("address", "port out of range")
    return match[1].strip("[]"), port


def split_zone(url: str) -> tuple[str, str | None]:
    """Split off the zone of a URL's IPv6 address: the network interface through which the address
    is reached.

    The form is [fe80::1%25eth0] (RFC 6874); [fe80::1%eth0] is accepted as well. Raises ValueError.
    """
    match = _ZONE.match(url)
    if match is None:
        return url, None
    if not _ZONE_NAME.match(match[2]):
        raise ValueError("the zone of an IPv6 address is the name of a network interface, as in [fe80::1%25eth0]")
    return f"{match[1]}]{url[match.end() :]}", match[2]


def check_reachable(addr: str, client_ip: str | None) -> None:
    """Raise if other machines cannot reach a node at `addr`, registered by a client at `client_ip`.

    InvalidValue: no usable host and port. MisleadingAddress: a wildcard address, or a loopback
    address registered from another machine.
    """
    # Nearly all addresses have this form.
    match = OTHER_IPV4.match(addr)
    if match is not None and 0 < int(match[1]) < 65536:
        return
    host = host_and_port(addr)[0].rstrip(".")
    if is_unspecified(host) or (is_loopback(host) and not is_loopback(client_ip or "localhost")):
        raise MisleadingAddress("loopback address, set -http-adv-addr")


def host_of(addr: str) -> str:
    """Return the host of an address in lower case, without scheme, user, port, brackets and final
    dot; "" if there is none.

    Unlike `host_and_port` it accepts any text, as Go's dialer does.
    """
    rest = _AUTHORITY_END.split(_SCHEME.sub("", addr.lower(), count=1), maxsplit=1)[0].rpartition("@")[2]
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    host = rest if rest.count(":") > 1 else rest.partition(":")[0]
    return host.rstrip(".")


def is_local(addr: str) -> bool:
    """Report whether an address leads every machine to itself: loopback, unspecified, or without a
    host (rule R5d).
    """
    return OTHER_IPV4.match(addr) is None and _is_local_host(host_of(addr))


def any_local(addrs: Iterable[str]) -> bool:
    """Report whether `is_local` holds for any of the addresses."""
    # Each registration checks every listed node, and nearly all have an IPv4 address.
    others = [addr for addr in addrs if OTHER_IPV4.match(addr) is None]
    return any(map(is_local, others)) if others else False


@lru_cache(maxsize=8192)
def _is_local_host(host: str) -> bool:
    return not host or is_loopback(host) or is_unspecified(host)


@lru_cache(maxsize=8192)
def is_loopback(host: str) -> bool:
    """Report whether `host`, an IP address or a name without a final dot, is the loopback
    interface.
    """
    if ":" in host:
        ip = _ipv6(host)
        return ip is not None and (ip.ipv4_mapped or ip).is_loopback
    name = host.lower()
    return _LOOPBACK_IPV4.match(name) is not None or name in _LOCAL_NAMES or name.endswith(".localhost")


def is_unspecified(host: str) -> bool:
    """Report whether `host` is the address of no machine, which servers listen on."""
    if ":" in host:
        ip = _ipv6(host)
        return ip is not None and (ip.ipv4_mapped or ip).is_unspecified
    return host == "0.0.0.0"  # noqa: S104, compared, not listened on


def _ipv6(text: str) -> ipaddress.IPv6Address | None:
    try:
        return ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return None
