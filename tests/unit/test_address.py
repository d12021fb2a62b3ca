"""Addresses that are accepted, those that are warned of, and those of the same node."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.addresses import check_reachable, check_text, host_and_port, host_of, is_local, same_node
from rqdisco.core.errors import InvalidValue, MisleadingAddress


@pytest.mark.parametrize(
    "text",
    [
        "localhost:4001",
        "172.16.160.49:4001",
        "host.svc:4001",
        "https://host.svc:4001",
        "[fdaa:0:1::3]:4001",
        "opaque",
        "ü.example:4001",
        "a" * 260,
    ],
)
def test_addresses_that_real_nodes_advertise_are_accepted_unchanged(text: str) -> None:
    assert check_text("address", text) is text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "not a string"),
        (5, "not a string"),
        (["a"], "not a string"),
        ("", "empty"),
        ("a" * 261, "longer than 260 bytes"),
        ("ü" * 131, "longer than 260 bytes"),
        ("a b:1", "contains white space"),
        ("a\n:1", "contains white space"),
        ("a\u00a0b", "contains white space"),
        ("a\x00b", "contains a control character"),
        ("a\x7fb", "contains a control character"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_an_address_that_cannot_be_returned_unchanged_is_refused_with_the_reason(value: object, why: str) -> None:
    with pytest.raises(InvalidValue, match=f"invalid address: {why}"):
        check_text("address", value)


@pytest.mark.parametrize(
    ("addr", "host", "port"),
    [
        ("10.0.0.1:4001", "10.0.0.1", 4001),
        ("http://h:1", "h", 1),
        ("https://h:65535", "h", 65535),
        ("[::1]:4001", "::1", 4001),
        ("http://h:1/", "h", 1),
    ],
)
def test_host_and_port_are_found_in_usable_addresses(addr: str, host: str, port: int) -> None:
    assert host_and_port(addr) == (host, port)


@pytest.mark.parametrize("addr", ["h", "h:0", "h:70000", "h:1/x", "h:1?x", "u@h:1", "::1:4001", "ftp://h:1", ":4001"])
def test_addresses_that_cannot_be_resolved_are_doubted(addr: str) -> None:
    with pytest.raises(InvalidValue):
        check_reachable(addr, "10.0.0.9")


@pytest.mark.parametrize(
    "addr", ["127.0.0.1:4001", "localhost:4001", "[::1]:4001", "http://127.1.2.3:1", "Localhost.:1"]
)
def test_a_loopback_address_is_doubted_when_it_comes_from_another_host(addr: str) -> None:
    with pytest.raises(MisleadingAddress, match="loopback address, set -http-adv-addr"):
        check_reachable(addr, "10.0.0.9")
    check_reachable(addr, "127.0.0.1")
    check_reachable(addr, "::1")
    check_reachable(addr, "::ffff:127.0.0.1")
    check_reachable(addr, None)


@pytest.mark.parametrize("addr", ["0.0.0.0:4001", "[::]:4001"])
@pytest.mark.parametrize("client", ["10.0.0.9", "127.0.0.1"])
def test_a_wildcard_address_is_doubted_wherever_it_comes_from(addr: str, client: str) -> None:
    with pytest.raises(MisleadingAddress):
        check_reachable(addr, client)


def test_addresses_are_compared_as_rqlited_filters_itself() -> None:
    assert same_node("a:1", "a:1")
    assert same_node("http://a:1", "a:1")
    assert same_node("a:1", "http://a:1")
    assert not same_node("https://a:1", "a:1")
    assert not same_node("A:1", "a:1")


def in_any_case(text: str) -> st.SearchStrategy[str]:
    """Return the text in upper and lower case."""
    return st.tuples(*(st.sampled_from([each.lower(), each.upper()]) for each in text)).map("".join)


NAMES = st.sampled_from(
    [
        "localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
        "ipv6-localhost",
        "localhost6.localdomain6",
        "db.localhost",
    ]
).flatmap(in_any_case)
LOCAL_HOSTS = st.one_of(
    st.builds("{}{}".format, NAMES, st.sampled_from(["", "."])),
    st.integers(0, 2**24 - 1).map(lambda low: str(ipaddress.IPv4Address((127 << 24) + low))),
    st.sampled_from(
        ["127.1", "0.0.0.0", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"]
    ),
    st.sampled_from(["[::1%lo]", "[::ffff:0.0.0.0]", ""]),
)
SCHEMES = st.sampled_from(["", "http://", "https://", "HTTP://", "http://user:secret@"])
ENDS = st.sampled_from([":4001", ":4001/", ":4001/x?y#z", "", "/", "?x=1", ":http"])


@given(SCHEMES, LOCAL_HOSTS, ENDS)
def test_an_address_that_leads_every_client_to_itself_is_local_in_any_form(scheme: str, host: str, end: str) -> None:
    assert is_local(f"{scheme}{host}{end}")


OTHER_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,8}){0,2}", fullmatch=True).filter(
    lambda name: not name.endswith(("localhost", "localdomain", "loopback"))
)
OTHER_IPS = st.ip_addresses().filter(
    lambda ip: not (ip.is_loopback or ip.is_unspecified or getattr(ip, "ipv4_mapped", None))
)
OTHER_HOSTS = OTHER_NAMES | OTHER_IPS.map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip))


@given(SCHEMES, OTHER_HOSTS, ENDS)
def test_an_address_of_a_certain_host_is_not_local_and_its_host_is_found(scheme: str, host: str, end: str) -> None:
    assert not is_local(f"{scheme}{host}{end}")
    assert host_of(f"{scheme}{host}{end}") == host.strip("[]")


@pytest.mark.parametrize(
    "addr", ["127.example.com:1", "localhost.example.com:4001", "mylocalhost:4001", "10.127.0.1:1", "0.0.0.0.example:1"]
)
def test_a_name_that_only_looks_like_loopback_is_not_local(addr: str) -> None:
    assert not is_local(addr)


@given(st.text(max_size=60))
def test_any_text_is_either_local_or_not(text: str) -> None:
    assert is_local(text) in (True, False)
