"""The names of the zone and their records: addresses as DNS can express them, and names as it has
them.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.dns_labels import is_zone_name, to_dns_labels
from rqdisco.core.host_ports import HostPort, parse_host_port
from rqdisco.core.records import Node
from rqdisco.core.views import View
from rqdisco.dns.zone import (
    SERVICES,
    Zone,
    ZoneQuery,
    has_ip,
    ip_of_label,
    node_hosts,
    node_label,
    of_family,
    omission_reason,
    service_addresses,
)

ZONE = Zone("disco.example.com", {**SERVICES, "web": "http"})


def record(*nodes: Node) -> View:
    return View(id="id", owner="0" * 16, version=1, created_at=1, nodes=nodes)


@pytest.mark.parametrize(
    ("addr", "host", "port"),
    [
        ("10.0.0.1:4001", "10.0.0.1", 4001),
        ("http://10.0.0.1:4001", "10.0.0.1", 4001),
        ("https://10.0.0.1:4001/", "10.0.0.1", 4001),
        ("[fd00::1]:4001", "fd00::1", 4001),
        ("[FD00:0:0::0001]:4001", "fd00::1", 4001),
        ("[::ffff:10.0.0.1]:4001", "10.0.0.1", 4001),
        ("[::ffff:a00:1]:65535", "10.0.0.1", 65535),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:4001", "::1", 4001),
    ],
)
def test_an_ip_address_is_recognized_in_every_notation(addr: str, host: str, port: int) -> None:
    assert parse_host_port(addr) == HostPort(host, port, is_ip=True)


@pytest.mark.parametrize(
    ("addr", "host"),
    [
        ("n1:4001", "n1"),
        ("N1.Example.COM:4001", "n1.example.com"),
        ("n1.example.com.:4001", "n1.example.com"),
        ("http://n1.svc:4001", "n1.svc"),
        ("[n1]:4001", "n1"),
        ("_n_1.a-b:4001", "_n_1.a-b"),
        ("1.2.3.4.in-addr.arpa:1", "1.2.3.4.in-addr.arpa"),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example"),
        ("a" * 63 + ".b:1", "a" * 63 + ".b"),
    ],
)
def test_a_host_name_is_normalized_without_its_last_dot_and_capitals(addr: str, host: str) -> None:
    assert parse_host_port(addr) == HostPort(host, int(addr.rpartition(":")[2]), is_ip=False)


@pytest.mark.parametrize(
    "addr",
    [
        "",
        "opaque",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:port",
        ":4001",
        "/run/rqlite.sock",
        "fd00::1:4001",
        "[fe80::1%eth0]:4001",
        "[fe80::1%25eth0]:4001",
        "fe80::1%eth0:4001",
        "0.0.0.0:4001",
        "[::]:4001",
        "[::ffff:0.0.0.0]:4001",
        "224.0.0.1:4001",
        "[ff02::1]:4001",
        "10.0.0.01:4001",
        "10.0.1:4001",
        "2130706433:4001",
        "0x7f000001:4001",
        "0x7F.0x1:4001",
        "10.0.0.0x1:4001",
        "0x:4001",
        "node.1:4001",
        "host name:4001",
        "-n1:4001",
        "n1-:4001",
        "n1..example.com:4001",
        ".n1:4001",
        ".:4001",
        "bücher.example:4001",
        "n\N{KELVIN SIGN}:4001",
        "a" * 64 + ":4001",
        ".".join(["a" * 50] * 5) + ":4001",
        "user@n1:4001",
        "n1:4001/path",
        "n1:4001?query",
        "n1:\N{ARABIC-INDIC DIGIT FOUR}",
    ],
)
def test_addresses_that_dns_cannot_express_are_left_out(addr: str) -> None:
    """Numbers with a dot or an 0x are left out too: some resolvers take them for addresses, others
    for names.
    """
    assert parse_host_port(addr) is None


@given(st.text(max_size=80) | st.from_regex(r"\[?[0-9a-fx.:%-]{1,40}\]?:[0-9]{1,5}", fullmatch=True))
def test_any_registered_address_becomes_valid_in_dns_or_is_left_out(addr: str) -> None:
    found = parse_host_port(addr)
    if found is None:
        return
    assert 0 < found.port < 65536
    if found.is_ip:
        ip = ipaddress.ip_address(found.host)
        assert str(ip) == found.host
        assert not ip.is_unspecified
    else:
        labels = found.host.encode("ascii").split(b".")
        assert all(0 < len(label) < 64 for label in labels)
        assert sum(len(label) + 1 for label in labels) < 255


def test_raft_services_have_each_node_with_a_raft_address_once() -> None:
    found = record(
        Node(addr="10.0.0.1:4001", raft_addr="10.0.0.1:4002"),
        Node(addr="10.0.0.2:4001"),
        Node(addr="http://10.0.0.1:4001", raft_addr="[::ffff:10.0.0.1]:4002"),
        Node(addr="10.0.0.3:4001", raft_addr="opaque"),
        Node(addr="10.0.0.1:5001", raft_addr="10.0.0.1:5002"),
    )
    assert [(each.host, each.port) for each in service_addresses(found, "raft")] == [
        ("10.0.0.1", 4002),
        ("10.0.0.1", 5002),
    ]


def test_http_services_have_every_node_with_the_port_of_its_address() -> None:
    found = record(
        Node(addr="10.0.0.1:4001", raft_addr="10.9.9.9:4002"),
        Node(addr="n2:4001"),
        Node(addr="opaque", raft_addr="h:1"),
    )
    assert [(each.host, each.port) for each in service_addresses(found, "http")] == [("10.0.0.1", 4001), ("n2", 4001)]


def test_a_host_is_from_the_raft_address_or_else_from_the_address() -> None:
    found = record(
        Node(addr="10.0.0.1:4001", raft_addr="10.9.9.1:4002"),
        Node(addr="10.0.0.2:4001"),
        Node(addr="10.0.0.3:4001", raft_addr="0.0.0.0:4002"),
        Node(addr="opaque", raft_addr="n4:4002"),
        Node(addr="10.9.9.1:7001"),
        Node(addr="opaque"),
    )
    assert [each.host for each in node_hosts(found)] == ["10.9.9.1", "10.0.0.2", "10.0.0.3", "n4"]


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Node(addr="n1:1", raft_addr="n1:2"), None),
        (Node(addr="n1:1"), "it has no Raft address"),
        (Node(addr="opaque", raft_addr="n1:2"), "its address has no usable host and port"),
        (Node(addr="n1:1", raft_addr="0.0.0.0:2"), "its Raft address has no usable host and port"),
    ],
)
def test_every_node_that_is_left_out_has_a_reason(node: Node, why: str | None) -> None:
    assert omission_reason(node) == why


@given(st.ip_addresses())
def test_every_address_has_a_label_and_no_two_the_same(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    label = node_label(str(ip))
    assert len(label) <= 34
    assert ip_of_label(label) == str(ip)


@pytest.mark.parametrize(
    "label", ["", "n-", "n-0a00001", "n-0A000001", "0a000001", "n-0a0000011", "n-0a00000g", "n-" + "0" * 33]
)
def test_other_labels_stand_for_no_address(label: str) -> None:
    assert ip_of_label(label) is None


def test_a_record_owns_the_ips_of_either_address_of_its_nodes() -> None:
    found = record(Node(addr="10.0.0.1:4001", raft_addr="10.9.9.1:4002"), Node(addr="n2:4001"), Node(addr="opaque"))
    assert [has_ip(found, ip) for ip in ("10.0.0.1", "10.9.9.1", "10.0.0.2", "n2")] == [True, True, False, True]


def test_addresses_of_a_family_come_once_each_and_in_order() -> None:
    ips = ["10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2"]
    assert of_family(ips, v6=False) == ["10.0.0.2", "10.0.0.1"]
    assert of_family(ips, v6=True) == ["fd00::1"]


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("disco.example.com", ""),
        ("a.disco.example.com", "a"),
        ("a.b.disco.example.com", "a.b"),
        ("disco.example.com.disco.example.com", "disco.example.com"),
        ("xdisco.example.com", None),
        ("example.com", None),
        ("disco.example.com.org", None),
        ("", None),
    ],
)
def test_a_name_is_the_zone_or_below_it_or_outside(name: str, below: str | None) -> None:
    assert ZONE.below(name) == below


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        ("_rqlite-raft._tcp.id", ZoneQuery("id", "raft")),
        ("_rqlite-http._tcp.a.b", ZoneQuery("a.b", "http")),
        ("_web._tcp.id", ZoneQuery("id", "http")),
        ("_tcp.id", ZoneQuery("id", None)),
        ("_other._tcp.id", None),
        ("rqlite-raft._tcp.id", None),
        ("_rqlite-raft._udp.id", None),
        ("_rqlite-raft.id", None),
        ("_rqlite-raft._tcp", None),
        ("_tcp", None),
        ("id", None),
    ],
)
def test_a_service_name_has_the_service_the_protocol_and_the_id(labels: str, asked: ZoneQuery | None) -> None:
    assert ZONE.service(labels) == asked


@pytest.mark.parametrize("name", ["a", "disco.example.com", "10.in-addr.arpa", "_a.b"])
def test_a_zone_name_is_a_host_name(name: str) -> None:
    assert is_zone_name(name)


@pytest.mark.parametrize("name", ["", ".", "a..b", "-a", "a b", "ü", ".a", "a" * 64])
def test_an_invalid_zone_name_is_refused(name: str) -> None:
    assert not is_zone_name(name)


def test_a_zone_name_leaves_room_for_every_name_below_it() -> None:
    longest = ".".join(["a" * 54, "b" * 55])
    assert is_zone_name(longest)
    assert not is_zone_name(f"{longest}c")
    target = f"{node_label('::')}.{to_dns_labels('A' * 64)}.{longest}"
    assert len(target) + 2 == 255
