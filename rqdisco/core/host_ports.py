"""Parse a node's address into the host and port that DNS publishes and probes connect to.

`addresses` checks and splits the text of an address. This module also rejects hosts that cannot be
reached, such as 0.0.0.0, and those that are neither an IP address nor a host name.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import msgspec

from rqdisco.core.addresses import host_and_port
from rqdisco.core.errors import InvalidValue

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")
# Some resolvers read these as IP addresses, others as names.
_NUMERIC_NAME = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?\Z")


class HostPort(msgspec.Struct, frozen=True):
    """The host and port of a node: a canonical IP address, or a host name to resolve."""

    host: str
    port: int
    is_ip: bool


@lru_cache(maxsize=8192)
def parse_host_port(addr: str) -> HostPort | None:
    """Parse an address; return None if its host and port cannot be reached or expressed in DNS."""
    try:
        host, port = host_and_port(addr)
    except InvalidValue:
        return None
    try:
        ip = usable_ip(host)
    except ValueError:
        is_name = is_host_name(host) and _NUMERIC_NAME.match(host) is None
        return HostPort(host.removesuffix(".").lower(), port, is_ip=False) if is_name else None
    return None if ip is None else HostPort(ip, port, is_ip=True)


def usable_ip(text: str) -> str | None:
    """Return an IP address in its canonical form; None if no node can be reached there. Raises
    ValueError.
    """
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return None
        ip = ip.ipv4_mapped or ip
    return None if ip.is_unspecified or ip.is_multicast else str(ip)


def is_host_name(text: str) -> bool:
    """Report whether the text is a valid host name."""
    return _HOST_NAME.match(text) is not None
