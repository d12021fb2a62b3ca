"""IDs as names of the zone: in any case, escaped, with dots, and all names that lie between them
and the zone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from rqdisco.core.dns_labels import to_dns_labels
from rqdisco.core.ids import is_valid_name
from tests.support.any_daemon import AnyDaemon
from tests.support.backends import BACKENDS
from tests.support.daemon import result
from tests.support.dns import ZONE, Names, answers, is_absent, rcode, targets
from tests.support.dns_sockets import Reactor

RAFT = "_rqlite-raft._tcp"


@pytest.fixture
def names(each_backend: None) -> Names:
    """The name server of a daemon over either backend."""
    return Names()


def test_a_node_has_its_name_only_while_it_is_registered(names: Names) -> None:
    names.add("id", "10.0.0.1:4001")
    names.add("other", "10.0.0.2:4001")
    assert rcode(names.ask(f"n-0a000002.id.{ZONE}")) == "NXDOMAIN"
    assert rcode(names.ask(f"n-0a000001.{ZONE}")) == "NXDOMAIN"
    assert rcode(names.ask(f"n-0a000001.nobody.{ZONE}")) == "NXDOMAIN"
    assert answers(names.ask(f"N-0A000001.id.{ZONE}")) == ["10.0.0.1"]
    result(Deferred.fromCoroutine(names.daemon.directory.remove("id", "10.0.0.1:4001")))
    names.outlast_caches()
    assert rcode(names.ask(f"n-0a000001.id.{ZONE}")) == "NXDOMAIN"
    assert is_absent(names.ask(f"id.{ZONE}")), "an ID stays"


def test_an_id_that_looks_like_the_name_of_a_node_does_not_shadow_the_node(names: Names) -> None:
    names.add("id", "10.0.0.1:4001")
    names.add("n-0a000001.id", "10.6.6.6:4001")
    names.add("n-0a000002.id", "10.6.6.7:4001")
    assert answers(names.ask(f"n-0a000001.id.{ZONE}")) == ["10.0.0.1"]
    assert answers(names.ask(f"n-0a000002.id.{ZONE}")) == ["10.6.6.7"], "there is no such node"


def test_case_does_not_matter_and_is_returned_as_queried(names: Names) -> None:
    names.add("id", "10.0.0.1:4001")
    names.add("MixedCase", "10.0.0.2:4001")
    assert answers(names.ask("iD.DiScO.eXaMpLe.CoM")) == ["10.0.0.1"]
    assert answers(names.ask(f"mIXEDcASE.{ZONE}")) == ["10.0.0.2"]
    assert targets(names.ask("_RQLITE-raft._TCP.MIXEDCASE.disco.EXAMPLE.com", "SRV")) == [
        (4002, "n-0a000002.MIXEDCASE.disco.EXAMPLE.com.")
    ]
    assert answers(names.ask("n-0A000002.MiXeDcAsE.disco.example.com")) == ["10.0.0.2"]


@pytest.mark.parametrize(
    "discovery_id",
    [
        "Prod",
        "prod",
        "a.B.c",
        "-lead",
        "trail-",
        "x--abc",
        "A" * 64,
        "a" * 64,
        "_a",
        "a..b",
        "n-0a000001",
        f"{RAFT}.id",
    ],
)
def test_every_id_can_be_queried_by_its_labels_and_by_its_alias(names: Names, discovery_id: str) -> None:
    names.add(discovery_id, "10.0.0.1:4001")
    labels = to_dns_labels(discovery_id)
    for spelt in (labels, labels.upper()):
        assert answers(names.ask(f"{spelt}.{ZONE}")) == ["10.0.0.1"]
        ((_, target),) = targets(names.ask(f"_rqlite-raft._tcp.{spelt}.{ZONE}", "SRV"))
        assert answers(names.ask(target)) == ["10.0.0.1"]
        assert is_absent(names.ask(f"_tcp.{spelt}.{ZONE}"))


def test_ids_that_differ_only_by_case_are_never_merged_and_are_logged(names: Names, log: Any) -> None:
    names.add("prod", "10.0.0.1:4001")
    names.add("Prod", "10.0.0.2:4001")
    names.add("PROD", "10.0.0.3:4001")
    for name in ("prod", "PROD", "_rqlite-raft._tcp.prod", "_tcp.Prod", "n-0a000001.prod"):
        assert rcode(names.ask(f"{name}.{ZONE}", "SRV")) == "SERVFAIL"
    assert answers(names.ask(f"{to_dns_labels('Prod')}.{ZONE}")) == ["10.0.0.2"], "its escaped name is its own"
    assert answers(names.ask(f"{to_dns_labels('PROD')}.{ZONE}")) == ["10.0.0.3"]
    warnings = [event["name"] for event in log if "differ only by case" in event["log_format"]]
    assert warnings == [f"prod.{ZONE}"]
    names.reactor.advance(60)
    names.ask(f"prod.{ZONE}")
    assert len([event for event in log if "differ only by case" in event["log_format"]]) == 2


def test_two_name_variants_without_a_lower_case_one_are_ambiguous_too(names: Names) -> None:
    names.add("Prod", "10.0.0.2:4001")
    assert answers(names.ask(f"prod.{ZONE}")) == ["10.0.0.2"]
    names.add("PROD", "10.0.0.3:4001")
    names.outlast_caches()
    assert rcode(names.ask(f"prod.{ZONE}")) == "SERVFAIL"


@pytest.mark.parametrize(
    "kind", ["A", "AAAA", "SRV", "ANY", "TXT", "MX", "SOA", "NS", "CNAME", "HTTPS", "DS", "TYPE0", "OPT"]
)
@pytest.mark.parametrize(
    "name", ["id", "_tcp.id", "_rqlite-raft._tcp.id", "_rqlite-http._tcp.id", "b", "c.b", "_tcp.a.c.b"]
)
def test_an_empty_non_terminal_has_an_empty_answer(names: Names, name: str, kind: str) -> None:
    """NXDOMAIN would mean that there is nothing below either, and caches believe that (RFC
    8020).
    """
    names.add("id")
    names.add("a.c.b")
    assert is_absent(names.ask(f"{name}.{ZONE}", kind))


@pytest.mark.parametrize("kind", ["A", "AAAA", "SRV", "ANY", "TXT"])
@pytest.mark.parametrize(
    "name",
    [
        *("x", "b.a", "x.id", "*", "id.id", "x--", "x--a", "x--ifbeg", "x--ifbeg.x", "n-0a000001.id"),
        *("_tcp", "_tcp.x", "_udp.id", "_tcp._tcp.id", "_other._tcp.id", "_rqlite-raft.id"),
        *(RAFT, f"{RAFT}.x", f"{RAFT}.b", f"x.{RAFT}.id", "_rqlite-raft._udp.id"),
    ],
)
def test_an_unknown_name_does_not_exist(names: Names, name: str, kind: str) -> None:
    names.add("id")
    names.add("a.b")
    assert rcode(names.ask(f"{name}.{ZONE}", kind)) == "NXDOMAIN"


def test_every_ancestor_of_an_answered_name_exists(names: Names) -> None:
    """Resolvers query for them one after the other (RFC 9156), and stop where there is nothing."""
    names.add("A-very-long-ID-with-capitals-in-it-and-then-some", "10.0.0.1:4001")
    names.add("x._tcp.b", "10.0.0.2:4001")
    names.add("y._rqlite-raft._tcp.b", "10.0.0.3:4001")
    names.add("z.ns", "10.0.0.3:4001")
    (labels,) = (to_dns_labels(each) for each in ("A-very-long-ID-with-capitals-in-it-and-then-some",))
    for whole in (f"_rqlite-raft._tcp.{labels}", "x._tcp.b", "y._rqlite-raft._tcp.b", "z.ns", f"n-0a000001.{labels}"):
        name = whole
        while name:
            assert rcode(names.ask(f"{name}.{ZONE}", "NS")) == "NOERROR", name
            name = name.partition(".")[2]
    assert answers(names.ask(f"x._tcp.b.{ZONE}")) == ["10.0.0.2"]


def test_a_dot_within_a_label_is_no_separator(names: Names) -> None:
    names.add("a.b", "10.0.0.1:4001")
    label = dns.name.Name([b"a.b", *dns.name.from_text(ZONE).labels])
    assert rcode(names.ask(label)) == "NXDOMAIN"
    zone = dns.name.Name([b"id", b"disco.example", b"com", b""])
    assert rcode(names.ask(zone)) == "REFUSED"


# pytest-twisted does not run a property for several parameters.
DAEMONS = st.sampled_from(list(BACKENDS.values()))
LABELS = st.sampled_from(
    [
        *(b"id", b"Id", b"a", b"b", b"ns", b"_tcp", b"_udp", b"_rqlite-raft", b"_rqlite-http"),
        *(b"n-0a000001", b"n-0a000009", b"x--", b"x--jfca", b"x--\xdf"),
        *(b"*", b"\xff", b"\0", b".", b"a.b", b"\xe9", b"\xdf"),
    ]
)
KINDS = st.sampled_from(["A", "AAAA", "SRV", "ANY", "SOA", "NS", "TXT", "CNAME"])


@given(
    st.lists(LABELS | st.binary(min_size=1, max_size=12), max_size=5),
    KINDS,
    st.sampled_from([None, 512, 4096]),
    DAEMONS,
)
def test_every_name_is_answered(
    labels: list[bytes], kind: str, size: int | None, backend: Callable[..., AnyDaemon]
) -> None:
    names = Names(daemon=backend(clock=Reactor()))
    for discovery_id in ("id", "IF", "a.b", "_tcp.b"):
        names.add(discovery_id, "10.0.0.1:4001", "[fd00::1]:4001")
    name = dns.name.Name([*labels, *dns.name.from_text(ZONE).labels])
    got = names.ask(name, kind, size=size)
    assert rcode(got) in ("NOERROR", "NXDOMAIN")
    if rcode(got) == "NXDOMAIN" and labels:
        below = dns.name.Name([b"_tcp", *name.labels])
        assert rcode(names.ask(below, kind)) == "NXDOMAIN", "there is nothing below what does not exist"


@given(
    st.lists(st.from_regex(r"[aA._-]{1,5}", fullmatch=True).filter(is_valid_name), max_size=5, unique=True), st.data()
)
def test_the_answer_is_that_of_the_only_id_with_this_name(ids: list[str], data: st.DataObject) -> None:
    names = Names(daemon=data.draw(DAEMONS)(clock=Reactor()))
    for number, discovery_id in enumerate(ids):
        names.add(discovery_id, f"10.0.0.{number}:4001")
    spelt = st.from_regex(r"[aA_-]{1,2}(\.[aA_-]{1,2})?", fullmatch=True) | st.sampled_from(
        ["a", *map(to_dns_labels, ids)]
    )
    asked = data.draw(spelt)
    same = [number for number, each in enumerate(ids) if asked == to_dns_labels(each) != each]
    same = same or [number for number, each in enumerate(ids) if each.lower() == asked.lower()]
    got = names.ask(f"{asked}.{ZONE}")
    if len(same) == 1:
        assert answers(got) == [f"10.0.0.{same[0]}"]
    elif same:
        assert rcode(got) == "SERVFAIL"
    else:
        assert not got.answer
