"""The values of options, from text. All raise Twisted's UsageError, which names the option."""

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
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}


def peer_url(option: str, text: str) -> str:
    """http:// or https://, HOST:PORT, and nothing else."""
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in ("http", "https") or parts.path or parts.query or parts.username:
        raise usage.UsageError(f"{option}: {text!r} is not http://HOST:PORT")
    return url


def ip_and_port(address: str) -> tuple[str, int]:
    """Where to answer DNS questions: IP:PORT."""
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        found = int(port)
    except ValueError:
        raise usage.UsageError(f"dns: {address!r} is not IP:PORT") from None
    if not 0 <= found < 65536:
        raise usage.UsageError(f"dns: port {found} is out of range")
    return str(ip), found


def probed_network(text: str) -> Network:
    """Addresses that may be probed."""
    try:
        return parse_network(text)
    except ValueError as error:
        raise usage.UsageError(f"probe-allow: {error}") from None


def aliases(text: str) -> dict[str, Kind]:
    """Names of services in DNS, and which addresses they are of: `a,b:http`, separated by commas or
    spaces.
    """
    found: dict[str, Kind] = {}
    for alias in text.replace(",", " ").lower().split():
        name, _, kind = alias.partition(":")
        if kind not in ("", "raft", "http") or not name or not is_host_name(f"_{name}") or "." in name:
            raise usage.UsageError(f"dns-aliases: {alias!r} is neither a service's name nor that and :http")
        found[name] = "http" if kind == "http" else "raft"
    return found


def host_name(option: str, text: str, is_valid: Callable[[str], bool]) -> str:
    """A name in DNS, in small letters and without its last dot."""
    name = text.lower().removesuffix(".")
    if not is_valid(name):
        raise usage.UsageError(f"{option}: {text!r} is not a name that DNS can have")
    return name


def own_host(text: str) -> str:
    """A name or an IP address of this machine, as a Host header has it but for the port."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    if not is_host_name(name):
        raise usage.UsageError(f"host: {text!r} is neither the name of a machine, without a port, nor an IP address")
    return name


def number(option: str, text: str, least: float) -> float:
    """A number between `least` and MOST, and a whole one if `least` is an int."""
    try:
        found = float(text) if isinstance(least, float) else int(text)
    except ValueError:
        raise usage.UsageError(f"{option}: {text!r} is not a number") from None
    if not least <= found <= MOST:
        raise usage.UsageError(f"{option}: {text} is not between {least:g} and {MOST:g}")
    return found


def bytes_of(option: str, text: str) -> int:
    """How many bytes `64M` are."""
    match = _BYTES.fullmatch(text)
    if match is None or not (found := int(match[1]) << _SHIFTS[match[2].upper()]) <= MOST:
        raise usage.UsageError(f"{option}: {text!r} is not a number of bytes, such as 64M")
    return found


def parse_flag(option: str, text: str) -> bool:
    """Yes or no, in one of the usual words."""
    word = text.lower()
    if word in ("1", "yes", "true", "on"):
        return True
    if word in ("0", "no", "false", "off"):
        return False
    raise usage.UsageError(f"{option}: {word!r} is neither yes nor no")
