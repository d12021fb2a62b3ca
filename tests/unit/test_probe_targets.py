"""The URLs of probes, and those that are allowed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.records import Node
from rqdisco.probes.targets import AllowedAddresses, ProbeTarget, parse_network, target_of

A = "10.0.0.1:4001"


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        (Node(addr=A), f"http://{A}"),
        (Node(addr=A, raft_addr="10.0.0.1:4002"), f"http://{A}"),
        (Node(addr=f"http://{A}/"), f"http://{A}"),
        (Node(addr=f"https://{A}"), f"https://{A}"),
        (Node(addr="[fd00::1]:4001"), "http://[fd00::1]:4001"),
        (Node(addr="[::ffff:10.0.0.1]:4001"), f"http://{A}"),
        (Node(addr="Node1.example.org.:4001"), "http://node1.example.org:4001"),
        (Node(addr="10.0.0.1:4002", raft_addr="10.0.0.1:4002"), "tcp://10.0.0.1:4002"),
        (Node(addr="opaque", raft_addr="10.0.0.1:4002"), "tcp://10.0.0.1:4002"),
        (Node(addr="opaque"), None),
        (Node(addr="0.0.0.0:4001"), None),
        (Node(addr="224.0.0.1:4001"), None),
        (Node(addr="[fe80::1%eth0]:4001"), None),
        (Node(addr="2130706433:4001"), None),
        (Node(addr="0x7f.1:4001"), None),
        (Node(addr=f"http://user@{A}"), None),
        (Node(addr=f"http://{A}/path"), None),
    ],
)
def test_a_node_is_probed_at_its_http_address_or_else_at_its_raft_address(node: Node, shown: str | None) -> None:
    target = target_of(node)
    assert (None if target is None else str(target)) == shown


@pytest.mark.parametrize(
    ("ip", "by", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "::/0", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("::ffff:127.0.0.1", "0.0.0.0/0", False),
        ("::ffff:127.0.0.1", "::/0", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "0.0.0.0/0", False),
        ("127.0.0.1", "0.0.0.0/0", False),
        ("127.0.0.1", "126.0.0.0/7", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("169.254.169.254", "0.0.0.0/0", False),
        ("169.254.169.254", "169.0.0.0/8", False),
        ("169.254.1.1", "169.254.0.0/16", True),
        ("::1", "::/0", False),
        ("::1", "::1/128", True),
        ("fe80::1", "::/0", False),
        ("fe80::1", "fe80::/10", True),
        ("0.0.0.0", "0.0.0.0/0", False),
        ("::", "::/0", False),
        ("224.0.0.1", "0.0.0.0/0", False),
        ("255.255.255.255", "0.0.0.0/0", False),
    ],
)
def test_only_allowed_networks_are_probed_and_special_addresses_need_their_own(ip: str, by: str, allowed: bool) -> None:
    assert AllowedAddresses([parse_network(by)])(ip) is allowed
    assert AllowedAddresses([parse_network("192.0.2.0/24"), parse_network(by)])(ip) is allowed


METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.10.10",
    "169.254.42.42",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fd00:100::100:200",
    "fe80::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::6464:64c8",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("ip", METADATA)
def test_a_clouds_metadata_address_is_probed_only_if_a_network_names_exactly_it(ip: str) -> None:
    address = ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    itself = address if mapped is None else mapped
    for length in range(itself.max_prefixlen):
        assert not AllowedAddresses([ip_network((itself, length), strict=False)])(ip), length
    assert AllowedAddresses([parse_network("10.0.0.0/8"), parse_network(str(itself))])(ip)
    assert not AllowedAddresses([parse_network("::/0"), parse_network("0.0.0.0/0"), parse_network(str(itself + 1))])(ip)


def test_neighbours_of_a_clouds_metadata_address_follow_their_network() -> None:
    allowed = AllowedAddresses(map(parse_network, ("100.64.0.0/10", "168.63.0.0/16", "fd00::/8")))
    assert allowed.all(["100.100.100.201", "168.63.129.17", "fd00:ec2::253", "fd20:ce::255"])
    assert not allowed.all(["100.100.100.201", "100.100.100.200"])


@given(st.ip_addresses())
def test_nothing_is_allowed_without_networks_and_no_special_address_by_wide_ones(address: Any) -> None:
    assert not AllowedAddresses([])(str(address))
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if special:
        assert not AllowedAddresses(map(parse_network, ("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1")))(str(address))


def test_an_ipv4_network_in_ipv6_is_not_mistaken_for_another() -> None:
    with pytest.raises(ValueError, match="write it as an IPv4 address"):
        parse_network("::ffff:10.0.0.0/104")


def test_targets_differ_by_how_they_are_probed() -> None:
    assert ProbeTarget("http", "10.0.0.1", 1, True) != ProbeTarget("https", "10.0.0.1", 1, True)
