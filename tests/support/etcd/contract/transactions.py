"""The contract of etcd: transactions, and those inside of others."""

from __future__ import annotations

import pytest

from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import (
    DUPLICATE,
    NO_LEASE,
    TOO_MANY,
    changed_at,
    delete,
    inner,
    put,
    range_,
    revision,
    txn,
)
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Answered, Subject

_BRANCHES = ("success", "failure")


class TransactionContract(OneMember):
    """Tests of transactions."""

    def test_a_transaction_that_comes_twice_succeeds_once_and_then_shows_what_there_is(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        request = txn([changed_at(at, 0)], [put(at), range_(at)], [range_(at)])
        first, again = etcd.post("/v3/kv/txn", request), etcd.post("/v3/kv/txn", request)
        kv = {
            "key": b64(at),
            "create_revision": str(now + 1),
            "mod_revision": str(now + 1),
            "version": "1",
            "value": b64("v"),
        }
        header = {"revision": str(now + 1)}
        read = {"response_range": {"header": header, "kvs": [kv], "count": "1"}}
        assert first.document["succeeded"] is True
        assert first.document["responses"] == [{"response_put": {"header": header}}, read]
        assert "succeeded" not in again.document
        assert again.document["responses"] == [read]
        assert revision(first) == revision(again) == now + 1

    def test_inner_transactions_compare_the_state_before_the_outer_one(self, etcd: Subject, at: str, now: int) -> None:
        answered = etcd.post(
            "/v3/kv/txn",
            txn(
                success=[
                    put(at + "a"),
                    inner([changed_at(at + "a", 0)], [range_(at + "a"), put(at + "b")]),
                    inner([changed_at(at + "a", now + 1)], [put(at + "c")]),
                ]
            ),
        )
        _, one, two = answered.document["responses"]
        read, _ = one["response_txn"]["responses"]
        assert read["response_range"]["count"] == "1"
        assert one["response_txn"]["succeeded"] is True
        assert two == {"response_txn": {"header": {}}}
        assert revision(answered) == now + 1

    @pytest.mark.parametrize("branch", _BRANCHES)
    def test_the_operations_of_inner_transactions_count_together_with_those_around_them(
        self, etcd: Subject, at: str, branch: str
    ) -> None:
        def post(outer: int, compares: int) -> Answered:
            return etcd.post("/v3/kv/txn", {branch: [inner([changed_at(at, 1)] * compares)] * outer})

        assert [post(*each).status for each in ((100, 28), (127, 1), (1, 127), (128, 0))] == [200] * 4
        assert [post(*each) for each in ((100, 29), (128, 1), (1, 128), (129, 0))] == [TOO_MANY] * 4
        assert etcd.post("/v3/kv/txn", txn([changed_at(at, 0)] * 129)) == TOO_MANY

    def test_two_changes_of_one_key_are_refused_even_where_only_one_can_happen(self, etcd: Subject, at: str) -> None:
        never = [changed_at(at, 1)]
        for operations in (
            [put(at), put(at)],
            [put(at), delete(at)],
            [delete(at, range_end=b64(at + "z")), put(at + "b")],
            [put(at), inner(never, [put(at)])],
            [inner(never, [put(at)]), inner(never, [], [put(at)])],
            [delete(at), inner(never, [put(at)])],
            [inner(never, [delete(at)]), inner(never, [put(at)])],
        ):
            for branch in _BRANCHES:
                assert etcd.post("/v3/kv/txn", {branch: operations}) == DUPLICATE, operations
        for operations in (
            [delete(at), delete(at)],
            [inner(never, [put(at)], [put(at)])],
            [range_(at), put(at), range_(at)],
            [inner(never, [put(at)]), inner(never, [delete(at)])],
        ):
            assert etcd.post("/v3/kv/txn", txn([], [], operations)).status == 200, operations

    def test_a_lease_that_is_not_there_refuses_the_whole_transaction_if_its_branch_is_taken(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        leased = put(at + "b", lease="4711")
        assert etcd.post("/v3/kv/put", leased["request_put"]) == NO_LEASE
        for operations in ([put(at), leased], [put(at), inner([changed_at(at, 0)], [leased])]):
            assert etcd.post("/v3/kv/txn", txn(success=operations)) == NO_LEASE
        spared = etcd.post("/v3/kv/txn", txn([changed_at(at, 1)], [leased], [range_(at)]))
        assert "count" not in spared.document["responses"][0]["response_range"]
        assert etcd.post("/v3/kv/txn", txn(success=[inner([changed_at(at, 1)], [leased])])).status == 200
        assert revision(spared) == now

    def test_comparisons_of_every_kind(self, etcd: Subject, at: str) -> None:
        written = revision(etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("m")}))

        def holds(**compare: object) -> bool:
            answered = etcd.post("/v3/kv/txn", txn([{"key": b64(at), **compare}]))
            assert answered.status == 200
            return "succeeded" in answered.document

        assert holds(target="MOD", mod_revision=str(written))
        assert holds(target="MOD", mod_revision=written - 1, result="GREATER")
        assert not holds(target="MOD", mod_revision=str(written), result="NOT_EQUAL")
        assert holds(target="CREATE", create_revision=str(written))
        assert holds(target="VERSION", version="1")
        assert not holds(target="VERSION")
        assert holds(target="VALUE", value=b64("m"))
        assert holds(target="VALUE", value=b64("n"), result="LESS")
        assert holds(target="LEASE")
        # The members of another target are not looked at, and no value is no value.
        assert not holds(target="MOD", version="1")
        assert not holds(key=b64(at + "none"), target="VALUE", value=b64("m"), result="NOT_EQUAL")
        assert holds(range_end=b64(at + "z"), target="VERSION", version="1")

    def test_a_transaction_of_unknown_members_is_empty_and_succeeds(self, etcd: Subject, now: int) -> None:
        answered = etcd.post("/v3/kv/txn", {"bogus": 1})
        assert answered.document.keys() == {"header", "succeeded"}
        assert revision(answered) == now
