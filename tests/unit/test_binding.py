"""Loopback addresses bind an ID to one client host: the rule on records alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rqdisco.core import host_binding
from rqdisco.core.addresses import is_local, same_node
from rqdisco.core.errors import LoopbackConflict, Undecided
from rqdisco.core.records import ClaimOutcome, Moment, Node, Put, Record, RegistrationOutcome, with_new_owner
from rqdisco.core.transitions import add, claim, clear_leader, register, remove, report

WINDOW = 30_000
M1, M2, M3, M4 = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
DEFAULT, SECOND, THIRD = "localhost:4001", "localhost:4003", "localhost:4005"
ANOTHER = "localhost:4001 is another machine's, set -http-adv-addr"


def fresh(*nodes: Node) -> Record:
    return Record(id="x", owner="aa", version=1, created_at=1, nodes=nodes)


def post(record: Record, addr: str, host: str | None, at: int = 0, **known: str) -> RegistrationOutcome:
    node = Node(addr=addr, **known)
    return register(record, node, host=host, now=Moment(1, at), retry_window_ms=WINDOW, max_nodes=9)


def posted(record: Record, *asking: tuple[str, str]) -> Record:
    for addr, host in asking:
        record = post(record, addr, host).record
    return record


def put(addr: str, raft_addr: str, node_id: str | None = None) -> Put:
    return Put(node=Node(addr=addr, raft_addr=raft_addr, node_id=node_id or raft_addr), value="{}")


# What rqlited 7 to 10 report when left at the default.
LEFT_AT_DEFAULT = put("localhost:4001", "localhost:4002")


def claimed(record: Record, what: Put, host: str | None, at: int = 0, *, is_hidden: bool = True) -> ClaimOutcome:
    return claim(record, what, host=host, version=7, now=Moment(1, at), max_nodes=9, is_hidden=is_hidden)


def reported(record: Record, what: Put, host: str | None) -> Record | None:
    return report(record, what, host=host, version=8, max_nodes=9)


def led(what: Put, host: str | None) -> Record:
    record = reported(fresh(), what, host)
    assert record is not None
    return record


def addrs(registration: RegistrationOutcome) -> list[str]:
    return [node.addr for node in registration.listed]


def test_one_of_several_hosts_left_at_the_default_is_granted_and_the_others_are_told_what_to_do() -> None:
    first = post(fresh(), DEFAULT, M1)
    assert (first.bootstrap, addrs(first), first.record.host) == ("granted", [DEFAULT], M1)
    for host in (M2, M3, None):
        for at in (0, WINDOW - 1, WINDOW, 10 * WINDOW):
            with pytest.raises(LoopbackConflict) as refused:
                post(first.record, DEFAULT, host, at=at)
            assert str(refused.value) == ANOTHER


def test_a_host_with_a_reachable_address_is_not_sent_to_its_own_loopback() -> None:
    with pytest.raises(LoopbackConflict, match=ANOTHER):
        post(posted(fresh(), (DEFAULT, M1)), f"{M4}:4001", M4)


def test_three_nodes_of_one_host_form_a_cluster_as_in_the_example_of_the_original() -> None:
    record = posted(fresh(), (DEFAULT, M1), (SECOND, M1))
    third = post(record, THIRD, M1)
    assert (third.bootstrap, addrs(third)) == (None, [DEFAULT, SECOND, THIRD])
    again = post(third.record, DEFAULT, M1, at=WINDOW)
    assert (again.bootstrap, addrs(again)) == (None, [DEFAULT, SECOND, THIRD])


def test_the_retry_window_grants_the_same_host_again() -> None:
    first = post(fresh(), DEFAULT, M1)
    assert post(first.record, DEFAULT, M1, at=5).bootstrap == "again"


def test_a_reachable_address_of_the_same_host_is_accepted_beside_its_loopback_address() -> None:
    record = posted(fresh(), (DEFAULT, M1), (f"{M1}:4003", M1))
    assert record.host == M1
    with pytest.raises(LoopbackConflict):
        post(record, f"{M2}:4001", M2)


def test_a_loopback_address_is_refused_where_other_hosts_are_listed() -> None:
    record = posted(fresh(), (f"{M1}:4001", M1))
    for host in (M2, "@0123456789abcdef"):
        with pytest.raises(LoopbackConflict, match="localhost:4001 is a loopback address beside others, set -http-adv"):
            post(record, DEFAULT, host)
    assert post(record, DEFAULT, M1).record.host == M1, "accepted from the host that is listed"


def test_loopback_addresses_are_refused_behind_a_proxy_that_hides_hosts_and_others_are_not() -> None:
    with pytest.raises(LoopbackConflict, match="localhost:4001 came through a proxy that hides its machine, set -http"):
        post(fresh(), DEFAULT, None)
    assert post(fresh(), f"{M1}:4001", None).bootstrap == "granted"


def test_removing_the_loopback_addresses_frees_the_id() -> None:
    record = posted(fresh(), (DEFAULT, M1), (f"{M1}:4003", M1), (SECOND, M1))
    record = remove(record, DEFAULT)
    assert record.host == M1
    record = remove(record, SECOND)
    assert record.host is None
    assert addrs(post(record, f"{M2}:4001", M2)) == [f"{M1}:4003", f"{M2}:4001"]
    empty = remove(posted(fresh(), (DEFAULT, M1)), DEFAULT)
    assert (empty.host, post(empty, DEFAULT, M2).bootstrap) == (None, "granted")


def test_a_node_that_returns_with_a_reachable_address_and_its_old_id_frees_the_id() -> None:
    record = post(fresh(), DEFAULT, M1, node_id="n1").record
    record = post(record, f"{M1}:4001", M1, at=WINDOW, node_id="n1").record
    assert (record.host, [node.addr for node in record.nodes]) == (None, [f"{M1}:4001"])


def test_nobody_else_replaces_a_loopback_address_by_its_node_id() -> None:
    record = post(fresh(), DEFAULT, M1, node_id="n1").record
    with pytest.raises(LoopbackConflict):
        post(record, f"{M2}:4001", M2, node_id="n1")
    proper = post(fresh(), f"{M1}:4001", M1, node_id="n1").record
    with pytest.raises(LoopbackConflict):
        post(proper, DEFAULT, M2, node_id="n1")


@pytest.mark.parametrize(
    ("addr", "shown"),
    [
        ("localhost:4001", "localhost:4001"),
        ("http://[::1]:4001", "http://[::1]:4001"),
        (":4001", ":4001"),
        ("localhost:4001/<script>", "a loopback address"),
        ("http://user:pass@localhost:1", "a loopback address"),
        ("ⓛ.localhost:4001", "a loopback address"),
        (f"localhost:4001/{'x' * 100}", "a loopback address"),
    ],
)
def test_a_reason_phrase_shows_addresses_as_plain_text(addr: str, shown: str) -> None:
    with pytest.raises(LoopbackConflict) as refused:
        post(posted(fresh(), (addr, M1)), f"{M2}:4001", M2)
    assert str(refused.value) == f"{shown} is another machine's, set -http-adv-addr"


@pytest.mark.parametrize("is_hidden", [True, False])
def test_one_of_several_hosts_left_at_the_default_wins_the_leader_key_for_good(is_hidden: bool) -> None:
    first = claimed(fresh(), LEFT_AT_DEFAULT, M1, is_hidden=is_hidden)
    assert (first.won, first.record.host) == (True, M1)
    for host in (M2, None):
        for at in (1, WINDOW, 10 * WINDOW):
            assert claimed(first.record, LEFT_AT_DEFAULT, host, at=at, is_hidden=is_hidden) == ClaimOutcome(
                record=first.record, won=False
            )
        assert reported(first.record, LEFT_AT_DEFAULT, host) is None
    assert claimed(first.record, LEFT_AT_DEFAULT, M1, at=WINDOW, is_hidden=True).won is is_hidden
    record = reported(first.record, LEFT_AT_DEFAULT, M1)
    assert record is not None
    assert record.confirmed
    assert reported(record, LEFT_AT_DEFAULT, M2) is None


def test_a_loopback_leader_behind_a_proxy_that_hides_hosts_neither_wins_nor_reports() -> None:
    assert not claimed(fresh(), LEFT_AT_DEFAULT, None).won
    assert reported(fresh(), LEFT_AT_DEFAULT, None) is None
    assert claimed(fresh(), put("localhost:4001", f"{M1}:4002"), None).won


def test_a_loopback_leader_does_not_report_beside_other_hosts() -> None:
    assert reported(led(put(f"{M1}:4001", f"{M1}:4002"), M1), LEFT_AT_DEFAULT, M2) is None
    assert reported(posted(fresh(), (f"{M1}:4001", M1)), LEFT_AT_DEFAULT, M2) is None


def test_a_claim_is_checked_by_its_raft_address_and_a_registration_by_its_http_address() -> None:
    raft_is_proper = put("localhost:4001", f"{M1}:4002")
    record = led(raft_is_proper, M1)
    assert record.host is None
    assert host_binding.may_join(record, record.nodes[0], host_binding.by_raft, M2)
    assert reported(record, put(f"{M2}:4001", f"{M2}:4002"), M2) is not None
    with pytest.raises(LoopbackConflict, match="localhost:4001 is a loopback address, set -http-adv-addr there"):
        post(record, f"{M2}:4001", M2)
    with pytest.raises(LoopbackConflict):
        post(record, DEFAULT, M2, at=WINDOW)
    http_is_proper = put(f"{M1}:4001", "localhost:4002")
    record = led(http_is_proper, M1)
    assert record.host == M1
    assert not host_binding.may_join(record, record.nodes[0], host_binding.by_raft, M2)
    assert host_binding.may_join(record, record.nodes[0], host_binding.by_raft, M1)


def test_a_node_known_by_name_binds_the_id_by_its_own_loopback_address_and_reports_again() -> None:
    what = put("n1.example:4001", "localhost:4002")
    record = led(what, M1)
    assert record.host == M1
    assert reported(record, what, M1) is not None
    assert reported(record, what, M2) is None


def test_clearing_an_unreported_claim_frees_the_id() -> None:
    record = clear_leader(claimed(fresh(), LEFT_AT_DEFAULT, M1).record)
    assert record.host is None
    assert claimed(record, LEFT_AT_DEFAULT, M2).won


def test_a_hint_is_added_only_on_the_host_that_it_came_from() -> None:
    record = posted(fresh(), (DEFAULT, M1))
    assert [node.addr for node in add(record, Node(addr=SECOND), host=M1, max_nodes=9).nodes] == [DEFAULT, SECOND]
    for addr, host in ((SECOND, M2), (f"{M2}:4001", M2), (SECOND, None)):
        with pytest.raises(LoopbackConflict):
            add(record, Node(addr=addr), host=host, max_nodes=9)
    assert add(remove(record, DEFAULT), Node(addr=SECOND), host=M2, max_nodes=9).host == M2


class TestFromBefore:
    """Records of earlier releases, which list loopback addresses without their host."""

    def test_the_next_loopback_registration_binds_an_old_record(self) -> None:
        record = fresh(Node(addr=DEFAULT), Node(addr=SECOND))
        outcome = post(record, DEFAULT, M1)
        assert (addrs(outcome), outcome.record.host) == ([DEFAULT, SECOND], M1)
        assert post(record, THIRD, M1).record.host == M1
        reporting = reported(fresh(LEFT_AT_DEFAULT.node), LEFT_AT_DEFAULT, M1)
        assert reporting is not None
        assert reporting.host == M1

    def test_no_host_joins_that_would_be_sent_to_its_own_loopback(self) -> None:
        with pytest.raises(LoopbackConflict, match="localhost:4001 is a loopback address, set -http-adv-addr there"):
            post(fresh(Node(addr=DEFAULT)), f"{M2}:4001", M2)
        record = fresh(LEFT_AT_DEFAULT.node)
        assert not host_binding.may_join(record, record.nodes[0], host_binding.by_raft, M2)

    def test_a_node_listed_beside_a_loopback_address_restarts_without_a_change(self) -> None:
        record = fresh(Node(addr=DEFAULT), Node(addr=f"{M2}:4001"))
        for addr, host in ((DEFAULT, M1), (f"{M2}:4001", M2), (f"http://{M2}:4001", M2)):
            outcome = post(record, addr, host)
            assert (outcome.bootstrap, len(outcome.listed), outcome.record.host) == (None, 2, None)
        with pytest.raises(LoopbackConflict):
            post(record, SECOND, M1)
        with pytest.raises(LoopbackConflict):
            post(record, f"{M3}:4001", M3)
        free = remove(record, DEFAULT)
        assert addrs(post(free, f"{M3}:4001", M3)) == [f"{M2}:4001", f"{M3}:4001"]

    def test_a_leader_that_others_can_reach_still_reports(self) -> None:
        record = fresh(Node(addr=DEFAULT), Node(addr=f"{M2}:4001"))
        assert reported(record, put(f"{M2}:4001", f"{M2}:4002"), M2) is not None


def test_the_next_to_register_a_loopback_address_binds_an_id_of_a_lost_daemons_host() -> None:
    record = posted(fresh(), (DEFAULT, "@aa"))
    assert with_new_owner(record, "bb", version=2, lost=True).host is None
    assert with_new_owner(record, "bb", version=2, lost=False).host == "@aa", (
        "its nodes may be alive, and others get an answer"
    )
    assert with_new_owner(posted(fresh(), (DEFAULT, "@cc")), "bb", version=2, lost=True).host == "@cc"
    assert with_new_owner(posted(fresh(), (DEFAULT, M1)), "bb", version=2, lost=True).host == M1


HOSTS = st.sampled_from([M1, M2, M3, "@aa", None])
PROPER = st.sampled_from([f"{host}:{port}" for host in (M1, M2, M3) for port in (1, 3)])
LOOPBACK = st.sampled_from([DEFAULT, "http://localhost:4001", SECOND, "127.0.0.1:4001", "[::1]:4001", ":4001"])
STEPS = st.tuples(
    st.sampled_from(["post", "claim", "report", "remove", "clear", "hint"]), PROPER | LOOPBACK, PROPER | LOOPBACK, HOSTS
)


@given(st.lists(STEPS, max_size=25), st.lists(st.integers(0, 2 * WINDOW), min_size=25, max_size=25))
def test_nobody_is_ever_sent_to_anothers_loopback_and_at_most_one_host_is_granted_on_it(
    steps: Sequence[tuple[str, str, str, str | None]], pauses: Sequence[int]
) -> None:
    record, granted, at = fresh(), set[tuple[str | None, bool]](), 0
    for version, ((step, addr, raft_addr, host), pause) in enumerate(zip(steps, pauses, strict=False), 2):
        at += pause
        what, now = put(addr, raft_addr), Moment(1, at)
        try:
            if step == "post":
                was_listed = any(same_node(node.addr, addr) for node in record.nodes)
                outcome = register(record, Node(addr=addr), host=host, now=now, retry_window_ms=WINDOW, max_nodes=9)
                record = outcome.record
                listed_local = any(is_local(node.addr) for node in outcome.listed)
                # A leader may have put one there by its HTTP address; a node that was listed before
                # may restart.
                assert record.host == host or not listed_local or (was_listed and record.host is None)
                granted |= {(host, is_local(addr))} if outcome.bootstrap else set()
            elif step == "claim":
                won = claim(record, what, host=host, version=version, now=now, max_nodes=9, is_hidden=True)
                record = won.record
                granted |= {(host, is_local(raft_addr))} if won.won else set()
            elif step == "report":
                claimed_before = record.unreported is not None and record.nodes[0]
                record = report(record, what, host=host, version=version, max_nodes=9) or record
                if claimed_before and claimed_before not in record.nodes:
                    # Another node leads, so the claim is void.
                    granted.clear()
            elif step == "hint":
                record = add(record, Node(addr=addr), host=host, max_nodes=9)
            else:
                record = remove(record, addr) if step == "remove" else clear_leader(record)
        except (LoopbackConflict, Undecided):
            continue
        if not record.nodes:
            assert record.host is None
            granted.clear()
        local = [node for node in record.nodes if is_local(node.addr) or is_local(node.raft_addr or node.addr)]
        assert local or record.host is None
        assert len({who for who, by_loopback in granted if by_loopback}) <= 1


def test_a_refusal_names_the_address_that_others_would_join() -> None:
    record = led(LEFT_AT_DEFAULT, M1)
    assert host_binding.objection(record, LEFT_AT_DEFAULT.node, host_binding.by_raft, M2) == (
        "localhost:4002 is another machine's, set -raft-adv-addr"
    )
    assert host_binding.objection(record, LEFT_AT_DEFAULT.node, host_binding.by_http, M2) == ANOTHER


def test_a_bound_record_shows_its_host() -> None:
    record = replace(fresh(Node(addr=DEFAULT)), host=M1)
    assert host_binding.objection(record, Node(addr=DEFAULT), host_binding.by_http, M2) == ANOTHER
    assert host_binding.objection(record, Node(addr=DEFAULT), host_binding.by_http, M1) is None
