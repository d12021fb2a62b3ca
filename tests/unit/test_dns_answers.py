"""The answers of the name server to resolvers, over UDP and in memory."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.name
import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.codec import decode_put
from rqdisco.core.records import Node
from tests.support.daemon import create_id, register, result
from tests.support.dns import (
    ZONE,
    Names,
    additional,
    answers,
    is_absent,
    is_ip,
    rcode,
    targets,
)

pytestmark = pytest.mark.usefixtures("each_backend")

RAFT = f"_rqlite-raft._tcp.id.{ZONE}"
HTTP = f"_rqlite-http._tcp.id.{ZONE}"


@pytest.fixture
def names() -> Names:
    return Names()


def test_an_id_has_the_addresses_of_its_nodes(names: Names) -> None:
    names.add("id", "10.0.0.1:4001", "[fd00::2]:4001", "10.0.0.3:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1", "10.0.0.3"]
    assert answers(names.ask(f"id.{ZONE}", "AAAA")) == ["fd00::2"]


def test_an_address_is_from_raft_or_else_from_http_and_appears_once(names: Names) -> None:
    names.add(
        "id",
        Node(addr="192.0.2.1:4001", raft_addr="10.0.0.1:4002"),
        Node(addr="http://10.0.0.2:4001"),
        Node(addr="10.0.0.1:5001"),
        Node(addr="[::ffff:10.0.0.3]:4001", raft_addr="[::ffff:10.0.0.4]:4002"),
        Node(addr="10.0.0.5:4001", raft_addr="0.0.0.0:4002"),
    )
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5"]
    assert is_absent(names.ask(f"id.{ZONE}", "AAAA")), "IPv4 mapped into IPv6 is IPv4"


@pytest.mark.parametrize(
    "addr", ["0.0.0.0:4001", "[::]:4001", "[fe80::1%eth0]:4001", "opaque", "a b:1".replace(" ", "_")]
)
def test_unreachable_addresses_are_left_out(names: Names, addr: str) -> None:
    names.add("id", Node(addr=addr, raft_addr=addr), "10.0.0.1:4001")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1"]
    assert is_absent(names.ask(f"id.{ZONE}", "AAAA"))
    assert targets(names.ask(RAFT, "SRV")) == [(4002, f"n-0a000001.id.{ZONE}.")]


def test_a_raft_service_points_to_the_raft_ports_of_nodes(names: Names) -> None:
    names.add("id", "10.0.0.1:4001", Node(addr="10.0.0.2:4001"), "[fd00::3]:4001", Node(addr="n4:4001"))
    got = names.ask(RAFT, "SRV")
    first, third = f"n-0a000001.id.{ZONE}.", f"n-{'fd' + '0' * 29 + '3'}.id.{ZONE}."
    assert answers(got) == [f"1 1 4002 {first}", f"1 1 4002 {third}"]
    assert additional(got) == {first: ["10.0.0.1"], third: ["fd00::3"]}


def test_an_http_service_points_to_the_http_port_of_every_node(names: Names) -> None:
    names.add("id", "10.0.0.1:4001", Node(addr="10.0.0.2:80", raft_addr="10.9.9.9:1"))
    got = names.ask(HTTP, "SRV")
    assert targets(got) == [(4001, f"n-0a000001.id.{ZONE}."), (80, f"n-0a000002.id.{ZONE}.")]


@pytest.mark.parametrize("service", ["_rqlite", "_raft", "_rqlite-svc", "_RQLITE-Raft"])
def test_raft_services_have_aliases(names: Names, service: str) -> None:
    names.add("id", "10.0.0.1:4001")
    assert targets(names.ask(f"{service}._tcp.id.{ZONE}", "SRV")) == [(4002, f"n-0a000001.id.{ZONE}.")]


def test_aliases_can_be_configured_and_replace_the_usual_ones() -> None:
    names = Names("--dns-aliases=Sql:http db")
    names.add("id", "10.0.0.1:4001")
    for service, port in (("sql", 4001), ("db", 4002), ("rqlite-raft", 4002), ("rqlite-http", 4001)):
        assert [found for found, _ in targets(names.ask(f"_{service}._tcp.id.{ZONE}", "SRV"))] == [port]
    assert rcode(names.ask(f"_rqlite._tcp.id.{ZONE}", "SRV")) == "NXDOMAIN"


def test_every_target_has_an_address_that_a_second_query_gives_too(names: Names) -> None:
    names.add(
        "id", "10.0.0.1:4001", "[fd00::2]:4001", "10.0.0.1:5001", Node(addr="192.0.2.3:1", raft_addr="10.0.0.3:2")
    )
    for service in (RAFT, HTTP):
        got = names.ask(service, "SRV")
        found = additional(got)
        assert {name for _, name in targets(got)} == set(found)
        for name, ips in found.items():
            assert not is_ip(name)
            (ip,) = ips
            kind, other = ("AAAA", "A") if ":" in ip else ("A", "AAAA")
            assert answers(names.ask(name, kind)) == [ip]
            assert is_absent(names.ask(name, other))
            assert answers(names.ask(name, "ANY")) == [ip]


@pytest.mark.parametrize("spelt", [ZONE, ZONE.upper()])
def test_the_zone_has_a_name_server_and_a_serial(names: Names, spelt: str) -> None:
    (before,) = answers(names.ask(spelt, "SOA"))
    assert before.split()[:2] == ["ns.disco.example.com.", f"hostmaster.{spelt}."]
    assert before.split()[3:] == ["60", "30", "3600", "1"]
    names.add("id", "10.0.0.1:4001")
    (after,) = answers(names.ask(spelt, "ANY"))
    assert int(after.split()[2]) > int(before.split()[2])
    got = names.ask(spelt, "NS")
    assert answers(got) == ["ns.disco.example.com."]
    assert additional(got) == {"ns.disco.example.com.": ["192.0.2.53"]}
    for kind in ("A", "AAAA", "SRV", "MX"):
        assert is_absent(names.ask(spelt, kind))


def test_the_name_server_has_the_addresses_it_listens_on() -> None:
    names = Names(ips=("192.0.2.53", "2001:db8::53"))
    assert answers(names.ask(f"ns.{ZONE}")) == ["192.0.2.53"]
    assert answers(names.ask(f"NS.{ZONE}", "AAAA")) == ["2001:db8::53"]
    assert answers(names.ask(f"ns.{ZONE}", "ANY")) == ["192.0.2.53"]
    assert is_absent(names.ask(f"ns.{ZONE}", "NS"))
    assert rcode(names.ask(f"x.ns.{ZONE}")) == "NXDOMAIN"


def test_the_name_server_can_have_the_name_it_has_elsewhere() -> None:
    names = Names("--dns-nameserver=NS1.example.org.")
    got = names.ask(ZONE, "NS")
    assert (answers(got), additional(got)) == (["ns1.example.org."], {})
    assert answers(names.ask(ZONE, "SOA"))[0].startswith("ns1.example.org. ")
    assert rcode(names.ask(f"ns.{ZONE}")) == "NXDOMAIN"


def test_a_name_server_with_a_name_in_the_zone_has_its_addresses_there() -> None:
    names = Names(f"--dns-nameserver=ns1.{ZONE}", ips=("192.0.2.53",))
    assert answers(names.ask(f"ns1.{ZONE}")) == ["192.0.2.53"]
    assert list(additional(names.ask(ZONE, "NS"))) == [f"ns1.{ZONE}."]
    assert rcode(names.ask(f"ns.{ZONE}")) == "NXDOMAIN"


@pytest.mark.parametrize("name", [".", "com", "example.com", "xdisco.example.com", "id.disco.example.org", "localhost"])
@pytest.mark.parametrize("kind", ["A", "SRV", "NS", "ANY", "AXFR"])
def test_outside_the_zone_everything_is_refused(names: Names, name: str, kind: str) -> None:
    got = names.ask(name, kind)
    assert rcode(got) == "REFUSED"
    assert not got.flags & dns.flags.AA
    assert not got.answer + got.authority + got.additional


@pytest.mark.parametrize("name", [ZONE, f"id.{ZONE}"])
@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_the_zone_cannot_be_transferred(names: Names, name: str, kind: str) -> None:
    names.add("id", "10.0.0.1:4001")
    assert rcode(names.ask(name, kind)) == "REFUSED"
    assert rcode(names.ask_over_tcp(name, kind)) == "REFUSED"


@pytest.mark.parametrize("cls", ["CH", "HS", "ANY", "NONE", "CLASS0", "CLASS65535"])
def test_classes_other_than_in_are_refused(names: Names, cls: str) -> None:
    names.add("id", "10.0.0.1:4001")
    for name, kind in ((f"id.{ZONE}", "A"), (ZONE, "SOA"), ("version.bind", "TXT")):
        assert rcode(names.ask(name, kind, cls=cls)) == "REFUSED"


def test_a_query_for_any_gets_one_record_set(names: Names) -> None:
    """As little as possible (RFC 8482), and never two families at once."""
    names.add("id", "10.0.0.1:4001", "[fd00::2]:4001", "10.0.0.3:4001")
    names.add("six", "[fd00::2]:4001")
    assert answers(names.ask(f"id.{ZONE}", "ANY")) == ["10.0.0.1", "10.0.0.3"]
    assert answers(names.ask(f"six.{ZONE}", "ANY")) == ["fd00::2"]
    assert len(names.ask(RAFT, "ANY").answer) == 1


def test_a_consul_kv_leader_is_a_node_like_every_other(names: Names) -> None:
    put = decode_put(b'{"id":"1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}', 0)
    assert result(Deferred.fromCoroutine(names.daemon.directory.claim("id", put, None))).won
    assert is_absent(names.ask(f"id.{ZONE}")), "it may never have got its winning answer"
    assert is_absent(names.ask(RAFT, "SRV"))
    assert result(Deferred.fromCoroutine(names.daemon.directory.report("id", put, None)))
    names.outlast_caches()
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1"]
    assert targets(names.ask(RAFT, "SRV")) == [(4002, f"n-0a000001.id.{ZONE}.")]
    assert targets(names.ask(HTTP, "SRV")) == [(4001, f"n-0a000001.id.{ZONE}.")]


def test_nothing_is_shown_before_it_is_durable_and_answered() -> None:
    names = Names()
    daemon: Any = names.daemon
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    granting = register(daemon, discovery_id, "10.0.0.1:4001")
    creating = Deferred.fromCoroutine(daemon.directory.report("new", decode_put(b'{"addr":"10.0.0.9:2"}', 0), None))
    assert is_absent(names.ask(f"{discovery_id}.{ZONE}"))
    assert rcode(names.ask(f"new.{ZONE}")) == "NXDOMAIN"
    granting.addErrback(lambda failure: None)
    granting.cancel()
    daemon.threads.release()
    assert is_absent(names.ask(f"{discovery_id}.{ZONE}")), "written, and about to be revoked"
    daemon.threads.release_all()
    names.outlast_caches()
    assert is_absent(names.ask(f"{discovery_id}.{ZONE}"))
    assert result(creating)
    assert answers(names.ask(f"new.{ZONE}")) == ["10.0.0.9"]


def test_a_full_store_does_not_stop_the_name_server() -> None:
    names = Names()
    names.add("id", "10.0.0.1:4001")
    names.daemon.fill()
    register(names.daemon, "id", "10.0.0.2:4001").addErrback(lambda failure: None)
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1"]


def test_nodes_from_before_a_restart_are_answered_after_it() -> None:
    names = Names()
    for discovery_id in ("id", "Mixed", "a.b"):
        names.add(discovery_id, "10.0.0.1:4001")
    daemon: Any = names.daemon
    again = Names(daemon=daemon.restart())
    for name in ("id", "mixed", "a.b"):
        assert answers(again.ask(f"{name}.{ZONE}")) == ["10.0.0.1"]
    assert is_absent(again.ask(f"b.{ZONE}"))


def test_an_internal_error_is_logged_and_answered_as_servfail(
    names: Names, logged_errors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names.daemon.names, "look_up_name", None)
    assert rcode(names.ask(f"id.{ZONE}")) == "SERVFAIL"
    assert len(logged_errors) == 1
    logged_errors.clear()
