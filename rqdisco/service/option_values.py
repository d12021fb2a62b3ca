"""Parsers of option values. All raise Twisted's UsageError, whose text names the option."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from twisted.python import usage

from rqdisco.core.host_ports import is_host_name
from rqdisco.dns.zone import Kind
from rqdisco.probes.targets import Network, parse_network

MOST = 1e12
_BYTES = re.compile(r"([0-9]{1,15})([KMGkmg]?)")
# Up to the last @: a password that should have been escaped may contain any character.
_PASSWORD = re.compile(r"(//[^/@:]*:).*@", re.DOTALL)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}


def service_url(option: str, text: str) -> str:
    """Parse http://HOST:PORT or https://HOST:PORT."""
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in ("http", "https") or parts.path or parts.query or parts.username:
        raise usage.UsageError(f"{option}: {mask_password(text)!r} is not http://HOST:PORT")
    return url


def mask_password(text: str) -> str:
    """Return the text without the password of a URL, which logs must not show."""
    return _PASSWORD.sub(r"\1***@", text)


def ip_and_port(address: str) -> tuple[str, int]:
    """Parse an address to answer DNS queries on: IP:PORT."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        port_number = int(port)
    except ValueError:
        raise usage.UsageError(f"dns: {address!r} is not IP:PORT") from None
    if not 0 <= port_number < 65536:
        raise usage.UsageError(f"dns: port {port_number} is out of range")
    return str(ip), port_number


def probed_network(text: str) -> Network:
    """Parse a network whose addresses may be probed."""
    try:
        return parse_network(text)
    except ValueError as error:
        raise usage.UsageError(f"probe-allow: {error}") from None


def proxy_network(text: str) -> Network:
    """Parse a network of trusted proxies."""
    try:
        network = parse_network(text)
    except ValueError as error:
        raise usage.UsageError(f"trusted-proxy: {error}") from None
    if not network.prefixlen:
        raise usage.UsageError(f"trusted-proxy: {text} is every address, so each client could claim to be any other")
    return network


def aliases(text: str) -> dict[str, Kind]:
    """Parse names of DNS services and the addresses they stand for: `a,b:http`, separated by commas
    or spaces.
    """
    kinds: dict[str, Kind] = {}
    for alias in text.replace(",", " ").lower().split():
        name, _, kind = alias.partition(":")
        if kind not in ("", "raft", "http") or not name or not is_host_name(f"_{name}") or "." in name:
            raise usage.UsageError(f"dns-aliases: {alias!r} is neither NAME nor NAME:http")
        kinds[name] = "http" if kind == "http" else "raft"
    return kinds


def host_name(option: str, text: str, is_valid: Callable[[str], bool]) -> str:
    """Parse a DNS name; return it in lower case, without a trailing dot."""
    name = text.lower().removesuffix(".")
    if not is_valid(name):
        raise usage.UsageError(f"{option}: {text!r} is not a valid DNS name")
    return name


def own_host(text: str) -> str:
    """Parse a host name or IP address of this machine; return it as a Host header has it, without
    port.
    """
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    if not is_host_name(name):
        raise usage.UsageError(f"host: {text!r} is neither a host name nor an IP address (without port)")
    return name


def number(option: str, text: str, least: float) -> float:
    """Parse a number between `least` and MOST; an integer if `least` is one."""
    try:
        value = float(text) if isinstance(least, float) else int(text)
    except ValueError:
        raise usage.UsageError(f"{option}: {text!r} is not a number") from None
    if not least <= value <= MOST:
        raise usage.UsageError(f"{option}: {text} is not between {least:g} and {MOST:g}")
    return value


def bytes_of(option: str, text: str) -> int:
    """Parse a size such as `64M`; return bytes."""
    match = _BYTES.fullmatch(text)
    if match is None or not (size := int(match[1]) << _SHIFTS[match[2].upper()]) <= MOST:
        raise usage.UsageError(f"{option}: {text!r} is not a number of bytes, such as 64M")
    return size


def parse_flag(option: str, text: str) -> bool:
    """Parse yes or no, or another usual word for them."""
    word = text.lower()
    if word in ("1", "yes", "true", "on"):
        return True
    if word in ("0", "no", "false", "off"):
        return False
    raise usage.UsageError(f"{option}: {word!r} is neither yes nor no")
