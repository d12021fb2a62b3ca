"""The client that trusted proxies name in `Forwarded` (RFC 7239) or `X-Forwarded-For`.

Each proxy appends the address that it was reached from. So a header is read from its end, and only
as far as the addresses are those of trusted proxies: what stands before may be the client's own
invention, and is not parsed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# The address of a hop; None if it is hidden or malformed.
Hop = ipaddress.IPv4Address | ipaddress.IPv6Address | None

# More trusted proxies in a row are not believed.
MAX_HOPS = 16
# The bytes of an element, and the commas in it: more are taken for an attempt to cost time.
_MOST_BYTES = 1024
_MOST_COMMAS = 64
# All quantifiers are possessive: clients write headers, and must not make them backtrack.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb'(?:%b|"(?:[^"\\]|\\.)*+")' % _TOKEN
_PAIR = rb"[ \t]*+(?:%b=%b[ \t]*+)?+" % (_TOKEN, _VALUE)
_ELEMENT = re.compile(rb"%b(?:;%b)*+" % (_PAIR, _PAIR), re.DOTALL)
_EACH_PAIR = re.compile(rb"(%b)=(%b)" % (_TOKEN, _VALUE), re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PORT = rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])" + _PORT)
_BARE_IPV6 = re.compile(rb"[0-9A-Fa-f:.]{2,45}")


class ForwardedClient(msgspec.Struct, frozen=True):
    """The client of a request that a trusted proxy passed on.

    `host` is None if nothing names it. A client that `is_proxy` passes on requests in its turn, or
    pretends to: its address is not that of another machine behind it.
    """

    host: str | None = None
    is_proxy: bool = False


class TrustedProxies:
    """The networks of the proxies whose headers are trusted."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        # The proxies of a daemon are few.
        self.include = lru_cache(maxsize=1024)(self._include)

    def _include(self, host: str) -> bool:
        """Report whether the connection of `host` is that of a trusted proxy."""
        address = _parse(host)
        return address is not None and self._trust(address)

    def client(self, forwarded: Sequence[bytes], forwarded_for: Sequence[bytes], vias: int = 0) -> ForwardedClient:
        """Return the client that a trusted proxy names: the last hop that is not trusted, or the
        first one if all are.

        The arguments are the lines of the two headers, and the number of proxies that `Via` shows.
        A proxy writes one header and may pass on the other as the client sent it. Nothing tells
        which is which, so a request whose headers name different clients has an unknown one.
        """
        found = [
            self._client_behind(hops, vias)
            for hops, lines in (
                (_forwarded_hops(b",".join(forwarded)), forwarded),
                (_forwarded_for_hops(b",".join(forwarded_for)), forwarded_for),
            )
            if any(lines)
        ]
        if not found or found[0].host != found[-1].host:
            return ForwardedClient()
        return ForwardedClient(found[0].host, any(client.is_proxy for client in found))

    def _client_behind(self, hops: Iterator[Hop], vias: int) -> ForwardedClient:
        """Return the client at the end of `hops`, the last of which comes first."""
        farthest: Hop = None
        proxies = 1
        for hop in hops:
            if hop is None:
                return ForwardedClient()
            if not self._trust(hop):
                is_proxy = vias > proxies or any(True for _ in hops)
                return ForwardedClient(_shown(hop), is_proxy)
            farthest = hop
            proxies += 1
        return ForwardedClient(None if farthest is None else _shown(farthest), vias >= proxies)

    def _trust(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """Return the address as text; None for one that no other machine has, such as 127.0.0.1. A
    client may have sent it to pass for the daemon's own machine.
    """
    return None if address.is_loopback or address.is_unspecified or address.is_multicast else str(address)


def _forwarded_hops(header: bytes) -> Iterator[Hop]:
    """Return the `for` of each element of `Forwarded`, the last one first; one that is malformed
    ends them.
    """
    end = len(header)
    for _ in range(MAX_HOPS):
        element = _last_element(header, end)
        if element is None:
            break
        yield _for_of(element)
        end -= len(element) + 1
        if end < 0:
            return
    yield None


def _last_element(header: bytes, end: int) -> bytes | None:
    """Return the last element of a list; None if it is malformed.

    It is the shortest end of the list that is an element. An end that begins within a quoted string
    has an odd number of quotation marks and is none; and a mark that the client left open before
    the last element does not matter.
    """
    start, first = end, max(0, end - _MOST_BYTES)
    for _ in range(_MOST_COMMAS):
        start = header.rfind(b",", first, start)
        if start < first and first:
            break
        if _ELEMENT.fullmatch(header, start + 1, end):
            return header[start + 1 : end]
        if start < 0:
            break
    return None


def _for_of(element: bytes) -> Hop:
    values = [value for name, value in _EACH_PAIR.findall(element) if name.lower() == b"for"]
    if len(values) != 1:
        return None
    (value,) = values
    if value.startswith(b'"'):
        value = _ESCAPED.sub(rb"\1", value[1:-1])
    return _node(value)


def _forwarded_for_hops(header: bytes) -> Iterator[Hop]:
    """Return the addresses of `X-Forwarded-For`, the last one first."""
    for number, text in enumerate(reversed(header.rsplit(b",", MAX_HOPS))):
        # What is left beyond the most hops is not parsed.
        yield None if number == MAX_HOPS else _node_or_ipv6(text.strip(b" \t"))


def _node(text: bytes) -> Hop:
    """Parse `192.0.2.1` or `[2001:db8::1]`, with or without a port."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    return _parse((match[1] or match[2]).decode("ascii")) if match[1] or b":" in match[2] else None


def _node_or_ipv6(text: bytes) -> Hop:
    """Parse a node, or an IPv6 address without brackets."""
    bare = _parse(text.decode("ascii")) if _BARE_IPV6.fullmatch(text) else None
    return _node(text) if bare is None else bare


def _parse(text: str) -> Hop:
    """Parse an address; one of IPv4 that is written as IPv6 is one of IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (getattr(address, "ipv4_mapped", None) or address) if address.version == 6 else address
