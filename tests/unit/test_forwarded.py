"""Whom trusted proxies name as their client, and what clients cannot make them name."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.http.server.forwarded import MAX_HOPS, ForwardedClient, TrustedProxies

PROXIES = TrustedProxies([ipaddress.ip_network("10.9.0.0/16"), ipaddress.ip_network("fd00:9::/32")])
UNKNOWN = ForwardedClient()


def forwarded(*lines: str) -> ForwardedClient:
    return PROXIES.client([line.encode() for line in lines], [])


def forwarded_for(*lines: str) -> ForwardedClient:
    return PROXIES.client([], [line.encode() for line in lines])


def client(host: str) -> ForwardedClient:
    return ForwardedClient(host)


def chain(host: str) -> ForwardedClient:
    return ForwardedClient(host, is_proxy=True)


@pytest.mark.parametrize("host", ["10.9.0.1", "::ffff:10.9.255.255", "fd00:9::1", "fd00:9::1%eth0"])
def test_a_proxy_is_trusted_in_every_notation(host: str) -> None:
    assert PROXIES.include(host)


@pytest.mark.parametrize("host", ["10.8.0.1", "127.0.0.1", "fd00:8::1", "::", "nginx", ""])
def test_no_other_host_is_trusted(host: str) -> None:
    assert not PROXIES.include(host)


FORWARDED = [
    ("for=192.0.2.1", client("192.0.2.1")),
    ("For=192.0.2.1;Proto=https;By=203.0.113.43", client("192.0.2.1")),
    ("proto=http; for=192.0.2.1 ;host=x", client("192.0.2.1")),
    ('for="192.0.2.1:4711"', client("192.0.2.1")),
    ('for="192.0.2.1:_port"', client("192.0.2.1")),
    ('for="[2001:DB8:cafe::17]:4711"', client("2001:db8:cafe::17")),
    ('for="[2001:db8:cafe:0::17]"', client("2001:db8:cafe::17")),
    ('for="[::ffff:192.0.2.1]"', client("192.0.2.1")),
    (r'for="\1\92.0.2.1"', client("192.0.2.1")),
    ('for=192.0.2.1;host="a,for=192.0.2.9;b="', client("192.0.2.1")),
    (r'for=192.0.2.1;host="a\",for=192.0.2.9"', client("192.0.2.1")),
    (";for=192.0.2.1;", client("192.0.2.1")),
    # Further hops.
    ("for=192.0.2.1, for=10.9.0.1", client("192.0.2.1")),
    ('for=192.0.2.1 ,for=10.9.0.1,for="[fd00:9::1]:80"', client("192.0.2.1")),
    ("for=10.9.0.2, for=10.9.0.1", client("10.9.0.2")),
    ("for=192.0.2.9, for=192.0.2.1, for=10.9.0.1", chain("192.0.2.1")),
    ("for=10.9.0.9, for=192.0.2.1", chain("192.0.2.1")),
    ('garbage", for=192.0.2.1', chain("192.0.2.1")),
    ('for=", for="[2001:db8::1]"', chain("2001:db8::1")),
    # Hidden.
    ("for=unknown", UNKNOWN),
    ("for=_gazonk", UNKNOWN),
    ('for="_gazonk:800"', UNKNOWN),
    ("for=192.0.2.1, for=unknown", UNKNOWN),
    ("for=192.0.2.1, for=_hidden, for=10.9.0.1", UNKNOWN),
    ("proto=https;by=203.0.113.43", UNKNOWN),
    ("for=192.0.2.1, proto=https", UNKNOWN),
    # Malformed.
    ("", UNKNOWN),
    (" ", UNKNOWN),
    ("192.0.2.1", UNKNOWN),
    ("for=", UNKNOWN),
    ("for =192.0.2.1", UNKNOWN),
    ("for=192.0.2.1;for=192.0.2.1", UNKNOWN),
    ("for=192.0.2.1:4711", UNKNOWN),
    ("for=[2001:db8::1]", UNKNOWN),
    ('for="2001:db8::1"', UNKNOWN),
    ('for="[192.0.2.1]"', UNKNOWN),
    ('for="[2001:db8::1%eth0]"', UNKNOWN),
    ("for=192.0.2.256", UNKNOWN),
    ("for=192.0.02.1", UNKNOWN),
    ('for="192.0.2.1', UNKNOWN),
    ('for="192.0.2.1:"', UNKNOWN),
    ("for=192.0.2.1,", UNKNOWN),
    ("for=192.0.2.1 for=192.0.2.1", UNKNOWN),
    ("for=192.0.2.9, x, for=10.9.0.1", UNKNOWN),
    ("for=example.com", UNKNOWN),
]


@pytest.mark.parametrize(("header", "expected"), FORWARDED)
def test_forwarded_names_the_last_hop_that_is_not_trusted(header: str, expected: ForwardedClient) -> None:
    assert forwarded(header) == expected


FORWARDED_FOR = [
    ("192.0.2.1", client("192.0.2.1")),
    ("\t192.0.2.1 ", client("192.0.2.1")),
    ("192.0.2.1:4711", client("192.0.2.1")),
    ("2001:DB8::1", client("2001:db8::1")),
    ("[2001:db8::1]", client("2001:db8::1")),
    ("[2001:db8::1]:4711", client("2001:db8::1")),
    ("::ffff:192.0.2.1", client("192.0.2.1")),
    ("192.0.2.1,10.9.0.1, fd00:9::1", client("192.0.2.1")),
    ("10.9.0.3, 10.9.0.2, 10.9.0.1", client("10.9.0.3")),
    ("192.0.2.9, 192.0.2.1", chain("192.0.2.1")),
    ("127.0.0.1, 192.0.2.1", chain("192.0.2.1")),
    (", 192.0.2.1", chain("192.0.2.1")),
    ("unknown", UNKNOWN),
    ("192.0.2.1, unknown", UNKNOWN),
    ("192.0.2.1, 10.9.0.300, 10.9.0.1", UNKNOWN),
    ("", UNKNOWN),
    ("192.0.2.1,", UNKNOWN),
    ("192.0.2.1 10.9.0.1", UNKNOWN),
    ("localhost", UNKNOWN),
    ("2001:db8::1%eth0", UNKNOWN),
    ("[192.0.2.1]", UNKNOWN),
    ("::1]", UNKNOWN),
]


@pytest.mark.parametrize(("header", "expected"), FORWARDED_FOR)
def test_x_forwarded_for_names_the_last_hop_that_is_not_trusted(header: str, expected: ForwardedClient) -> None:
    assert forwarded_for(header) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1"])
def test_no_client_passes_for_this_machine(host: str) -> None:
    node = f'"[{host}]"' if ":" in host else host
    assert forwarded(f"for={node}") == forwarded_for(host) == UNKNOWN
    assert forwarded_for(f"{host}, 10.9.0.1") == UNKNOWN
    local = TrustedProxies([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")])
    assert local.client([], [host.encode()]) == UNKNOWN
    assert local.client([], [b"192.0.2.1, 127.0.0.1"]) == client("192.0.2.1"), "two proxies of this machine"


def test_lines_of_a_header_are_one_list_in_their_order() -> None:
    assert forwarded("for=192.0.2.1", "for=10.9.0.1") == client("192.0.2.1")
    assert forwarded_for("192.0.2.9", "192.0.2.1, 10.9.0.1") == chain("192.0.2.1")


def test_headers_that_name_different_clients_name_none() -> None:
    def both(one: str, other: str) -> ForwardedClient:
        return PROXIES.client([one.encode()], [other.encode()])

    assert both("for=192.0.2.1", "192.0.2.1") == client("192.0.2.1")
    assert both("for=192.0.2.9, for=192.0.2.1", "192.0.2.1") == chain("192.0.2.1")
    assert both("for=192.0.2.9", "192.0.2.1") == UNKNOWN
    assert both("for=unknown", "192.0.2.1") == UNKNOWN
    assert both("for=192.0.2.1", "x") == UNKNOWN
    assert both("for=192.0.2.1", "") == client("192.0.2.1"), "an empty header is none"


def test_a_client_is_a_proxy_if_via_shows_more_proxies_than_are_trusted() -> None:
    assert PROXIES.client([], [b"192.0.2.1"], vias=1) == client("192.0.2.1")
    assert PROXIES.client([], [b"192.0.2.1"], vias=2) == chain("192.0.2.1")
    assert PROXIES.client([], [b"192.0.2.1, 10.9.0.1"], vias=2) == client("192.0.2.1")
    assert PROXIES.client([], [b"10.9.0.1"], vias=1) == client("10.9.0.1")
    assert PROXIES.client([], [b"10.9.0.1"], vias=2) == chain("10.9.0.1")


def test_endless_chains_of_proxies_are_not_followed() -> None:
    longest = ", ".join(["192.0.2.1", *["10.9.0.1"] * (MAX_HOPS - 1)])
    assert forwarded_for(longest) == client("192.0.2.1")
    assert forwarded_for(f"{longest}, 10.9.0.1") == UNKNOWN
    longest = ", ".join(["for=192.0.2.1", *["for=10.9.0.1"] * (MAX_HOPS - 1)])
    assert forwarded(longest) == client("192.0.2.1")
    assert forwarded(f"{longest}, for=10.9.0.1") == UNKNOWN


def test_an_element_that_is_very_long_is_not_searched_for_its_beginning() -> None:
    assert forwarded(f'for=192.0.2.1;host="{"x" * 900}"') == client("192.0.2.1")
    assert forwarded(f'for=192.0.2.1;host="{"x" * 1020}"') == UNKNOWN
    assert forwarded(f'for=192.0.2.1;host="{"," * 60}"') == client("192.0.2.1")
    assert forwarded(f'for=192.0.2.1;host="{"," * 70}"') == UNKNOWN


ADDRESSES = st.ip_addresses().filter(
    lambda ip: (
        not (
            ip.is_loopback
            or ip.is_unspecified
            or ip.is_multicast
            or getattr(ip, "ipv4_mapped", None)
            or PROXIES.include(str(ip))
        )
    )
)
TRUSTED = st.integers(1, 0xFFFE).map(lambda low: ipaddress.IPv4Address((10 << 24) + (9 << 16) + low))
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
HOSTILE = st.text(st.sampled_from('for=";,\\ \t192.0.2.:[]_unknown'), max_size=40)
PORTS = st.sampled_from(["", ":80", ":_a.b-c"])


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def elements(draw: st.DrawFn, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Draw an element of Forwarded as a proxy writes it for the hop at `address`."""
    node = f"[{address}]" if address.version == 6 else str(address)
    port = draw(PORTS)
    value = quoted(node + port) if port or address.version == 6 or draw(st.booleans()) else node
    pairs = [draw(st.sampled_from(["for", "For", "FOR"])) + "=" + value]
    if draw(st.booleans()):
        pairs.append("host=" + quoted(draw(TEXT | HOSTILE)))
    return ";".join(draw(st.permutations([*pairs, "proto=https"])))


@given(st.data(), HOSTILE | TEXT, ADDRESSES, st.lists(TRUSTED, max_size=3))
def test_nothing_that_a_client_sends_changes_what_proxies_append(
    data: st.DataObject,
    sent: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    proxies: list[ipaddress.IPv4Address],
) -> None:
    appended = [data.draw(elements(hop)) for hop in (address, *proxies)]
    assert forwarded(", ".join([sent, *appended])).host == str(address)
    assert forwarded(sent, *appended).host == str(address)
    assert forwarded(", ".join(appended)) == client(str(address))
    hops = [str(hop) for hop in (address, *proxies)]
    assert forwarded_for(", ".join([sent, *hops])).host == str(address)
    assert forwarded_for(", ".join(hops)) == client(str(address))


@given(st.lists(st.binary(max_size=60) | HOSTILE.map(str.encode), max_size=4))
def test_no_header_makes_a_client_of_this_machine_or_an_error(lines: list[bytes]) -> None:
    everybody = TrustedProxies([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])
    for proxies in (PROXIES, everybody):
        for found in (proxies.client(lines, []), proxies.client([], lines), proxies.client(lines, lines)):
            assert found.host is None or not ipaddress.ip_address(found.host).is_loopback
