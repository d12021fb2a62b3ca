"""The leader key's transitions: who wins it, what a report changes, and that all APIs together
grant once.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.codec import Malformed, decode_put
from rqdisco.core.errors import InvalidValue, TooManyNodes
from rqdisco.core.records import ClaimOutcome, Moment, Node, Put, Record
from rqdisco.core.transitions import claim, clear_leader, register, remove, report
from rqdisco.core.verdicts import Health, Verdict
from rqdisco.core.views import view_of
from rqdisco.http.requests.documents import encode_assessment, encode_full_document

WINDOW = 30_000
A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def fresh() -> Record:
    return Record(id="x", owner="h", version=1, created_at=1)


def put(addr: str, **known: str) -> Put:
    return Put(node=Node(addr=addr, raft_addr=f"{addr}2", **known), value=f'{{"addr":"{addr}2"}}')


def claimed(record: Record, addr: str, at: int = 0, version: int = 7) -> ClaimOutcome:
    return claim(record, put(addr), host=None, version=version, now=Moment(1, at), max_nodes=5, is_hidden=False)


def reported(record: Record, addr: str, version: int = 8, **known: str) -> Record:
    reported = report(record, put(addr, **known), host=None, version=version, max_nodes=5)
    assert reported is not None
    return reported


def post(record: Record, addr: str, at: int = 0, **known: str) -> tuple[str | None, list[str], Record]:
    outcome = register(
        record, Node(addr=addr, **known), host=None, now=Moment(1, at), retry_window_ms=WINDOW, max_nodes=5
    )
    return outcome.bootstrap, [node.addr for node in outcome.listed], outcome.record


def test_the_first_claim_wins_and_no_other_does() -> None:
    first = claimed(fresh(), A)
    assert first.won
    assert claimed(first.record, B) == ClaimOutcome(record=first.record, won=False)
    assert not claimed(first.record, A).won, "a repeat is no claim: its node would join itself"


def test_the_winner_is_listed_with_both_addresses_and_others_join_it() -> None:
    record = claimed(fresh(), A).record
    assert record.nodes == (Node(addr=A, raft_addr=f"{A}2"),)
    assert post(record, B)[:2] == (None, [A, B])


def test_a_winner_that_uses_the_other_api_within_the_window_is_still_alone() -> None:
    record = post(claimed(fresh(), A).record, B)[2]
    assert post(record, A, at=WINDOW - 1)[:2] == ("again", [A])
    assert post(record, A, at=WINDOW)[:2] == (None, [A, B])


def test_a_report_ends_the_window_because_the_cluster_has_its_seed() -> None:
    record = reported(post(claimed(fresh(), A).record, B)[2], A)
    assert record.confirmed
    assert post(record, A, at=1)[:2] == (None, [A, B])


def test_nobody_wins_the_key_where_a_node_is_registered() -> None:
    record = post(fresh(), A)[2]
    assert claimed(record, B) == ClaimOutcome(record=record, won=False)
    assert claimed(record, A) == ClaimOutcome(record=record, won=False)


def test_a_report_overwrites_and_moves_the_indexes() -> None:
    record = reported(reported(fresh(), A, version=8), B, version=9)
    assert record.leader is not None
    assert (record.leader.addr, record.leader.created, record.leader.modified) == (B, 8, 9)
    assert [node.addr for node in record.nodes] == [A, B]


def test_a_leader_with_a_new_address_and_its_old_id_replaces_itself() -> None:
    record = reported(reported(fresh(), A, node_id="n1"), B, node_id="n1")
    assert [node.addr for node in record.nodes] == [B]


def test_the_leader_key_follows_a_node_that_registers_a_new_address() -> None:
    record = post(reported(fresh(), A, node_id="n1"), B, node_id="n1")[2]
    assert record.leader is not None
    assert record.leader.addr == B


def test_clearing_the_key_leaves_the_nodes_so_that_nobody_wins_it_beside_a_running_cluster() -> None:
    record = clear_leader(reported(fresh(), A))
    assert record.leader is None
    assert not claimed(record, B).won
    assert clear_leader(record) is record


def test_a_leader_that_is_removed_no_longer_leads() -> None:
    record = remove(reported(post(fresh(), B)[2], A), A)
    assert (record.leader, record.confirmed) == (None, True)


def test_removing_the_last_node_makes_room_for_a_new_cluster_by_either_api() -> None:
    empty = remove(reported(fresh(), A), A)
    assert (empty.leader, empty.confirmed, empty.was_emptied) == (None, False, True)
    assert claimed(empty, B).won
    assert post(empty, B)[0] == "granted"


def test_a_report_of_one_node_too_many_is_refused() -> None:
    record = fresh()
    for number in range(5):
        record = reported(record, f"n{number}:1")
    with pytest.raises(TooManyNodes):
        reported(record, "n5:1")


ADDRESSES = st.sampled_from([A, B, C])
STEPS = st.tuples(st.sampled_from(["claim", "post", "report", "clear"]), ADDRESSES, st.integers(0, 29_999))


@given(st.lists(STEPS, max_size=30))
def test_only_one_address_is_granted_between_two_empty_lists_by_any_api(
    steps: list[tuple[str, str, int]],
) -> None:
    record, granted, is_reported = fresh(), set(), False
    for version, (step, addr, at) in enumerate(sorted(steps, key=lambda step: step[2]), 2):
        if step == "claim":
            outcome = claimed(record, addr, at=at, version=version)
            record = outcome.record
            granted |= {addr} if outcome.won else set()
            assert not (outcome.won and is_reported)
        elif step == "post":
            bootstrap, _, record = post(record, addr, at=at)
            granted |= {addr} if bootstrap else set()
        elif step == "report":
            record, is_reported = reported(record, addr, version=version), True
        else:
            record = clear_leader(record)
        assert record.leader is None or record.leader.addr in {node.addr for node in record.nodes}
    assert len(granted) <= 1


def test_a_leader_value_gives_the_node_with_both_its_addresses_and_its_id() -> None:
    value = b'{"id":"1","api_addr":"https://h:1","addr":"h:2","more":[1]}'
    node = Node(addr="h:1", raft_addr="h:2", node_id="1")
    assert decode_put(value, 3) == Put(node=node, value=value.decode(), flags=3)
    assert decode_put(b'{"addr":"h:2"}').node == Node(addr="h:2", raft_addr="h:2")
    assert decode_put(b'{"addr":"h:2","api_addr":"foohttp://h:1"}').node.addr == "foohttp://h:1"


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"[]", b'"h:2"', b"null", b"{}", b'{"addr":null}', b'{"addr":2}', b'{"addr":""}', b'{"addr":"h:2"',
     b'{"addr":"\xff"}', b"[" * 100_000, b'{"addr":"h:2","x":NaN}',
     b'{"addr":"h:2","x":' + b"[" * 900 + b"]" * 900 + b"}"],
)  # fmt: skip
def test_a_leader_value_that_rqlite_could_not_parse_is_refused(value: bytes) -> None:
    with pytest.raises(Malformed, match="leader value must be JSON with addr"):
        decode_put(value)


@pytest.mark.parametrize(
    "value",
    [
        b'{"addr":"h 2"}',
        b'{"addr":"h:2","api_addr":"http://"}',
        b'{"addr":"h:2","api_addr":1}',
        b'{"addr":"a","id":7}',
    ],
)
def test_a_leader_value_whose_parts_cannot_be_registered_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidValue):
        decode_put(value)


def test_the_document_marks_the_leader_and_says_whether_it_reported_itself() -> None:
    value = decode_put(b'{"id":"1","api_addr":"http://h:1","addr":"h:2"}')
    record = claim(fresh(), value, host=None, version=7, now=Moment(1, 0), max_nodes=5, is_hidden=False).record
    record = register(record, Node(addr=B), host=None, now=Moment(1, 0), retry_window_ms=0, max_nodes=5).record
    view = view_of(record, is_owner=True)
    assessment = encode_assessment(view, Verdict(Health.FORMING, "no report yet"))
    document = encode_full_document(view, assessment, orphaned=False).decode()
    assert '"registrations": [{"addr": "h:1", "raft_addr": "h:2", "node_id": "1", "leader": true}, ' in document
    assert '"leader": {"id": "1", "api_addr": "http://h:1", "addr": "h:2", "index": 7, "reported": false}}' in document
