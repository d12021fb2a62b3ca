"""The contract of etcd: one set of tests for the model and the real one.

Others may use the same etcd, so every test has keys of its own and compares revisions to those it
has seen. Texts of malformed JSON are not compared.
"""

from __future__ import annotations

import base64
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from tests.support.etcd.authentication import authentication
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Answered, Subject

_numbers = count(1)
_BRANCHES = ("success", "failure")


def range_(key: str, **more: object) -> dict[str, object]:
    return {"request_range": {"key": b64(key), **more}}


def put(key: str, value: str = "v", **more: object) -> dict[str, object]:
    return {"request_put": {"key": b64(key), "value": b64(value), **more}}


def delete(key: str, **more: object) -> dict[str, object]:
    return {"request_delete_range": {"key": b64(key), **more}}


def txn(compare: object = (), success: object = (), failure: object = ()) -> dict[str, object]:
    return {"compare": compare, "success": success, "failure": failure}


def inner(compare: object = (), success: object = (), failure: object = ()) -> dict[str, object]:
    return {"request_txn": txn(compare, success, failure)}


def changed_at(key: str, revision: int) -> dict[str, object]:
    return {"key": b64(key), "target": "MOD", "mod_revision": str(revision), "result": "EQUAL"}


def create(key: str, **more: object) -> dict[str, object]:
    return {"create_request": {"key": b64(key), **more}}


def revision(answered: Answered) -> int:
    return int(answered.document["header"]["revision"])


def refused(status: int, code: int, text: str) -> Answered:
    return Answered(status, {"error": text, "message": text, "code": code})


TOO_MANY = refused(400, 3, "etcdserver: too many operations in txn request")
DUPLICATE = refused(400, 3, "etcdserver: duplicate key given in txn request")
NO_KEY = refused(400, 3, "etcdserver: key is not provided")
NO_LEASE = refused(404, 5, "etcdserver: requested lease not found")
NO_SPACE = refused(429, 8, "etcdserver: mvcc: database space exceeded")
COMPACTED = refused(400, 11, "etcdserver: mvcc: required revision has been compacted")
FUTURE = refused(400, 11, "etcdserver: mvcc: required revision is a future revision")
DENIED = refused(403, 7, "etcdserver: permission denied")
BAD_TOKEN = refused(401, 16, "etcdserver: invalid auth token")
NO_USER = refused(400, 3, "etcdserver: user name is empty")


class Contract:
    """The tests. A subclass has a fixture `etcd`."""

    @pytest.fixture
    def etcd(self) -> Subject:
        raise NotImplementedError

    @pytest.fixture
    def at(self) -> str:
        """The start of the test's own keys."""
        return f"/test-{next(_numbers)}/"

    @pytest.fixture
    def now(self, etcd: Subject) -> int:
        """The revision before the test."""
        return revision(etcd.post("/v3/kv/range", {"key": b64("/none")}))

    def test_a_put_is_read_with_its_revisions_as_strings_and_without_fields_that_are_zero(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        for value in ("1", ""):
            written = etcd.post("/v3/kv/put", {"key": b64(at), "value": b64(value)})
        assert written.status == 200
        assert written.document.keys() == {"header"}
        header = written.document["header"]
        assert header.keys() == {"cluster_id", "member_id", "revision", "raft_term"}
        assert all(isinstance(each, str) and each.isdigit() for each in header.values())
        assert etcd.post("/v3/kv/range", {"key": b64(at)}).document == {
            "header": {**header, "revision": str(now + 2)},
            "kvs": [
                {"key": b64(at), "create_revision": str(now + 1), "mod_revision": str(now + 2), "version": "2"},
            ],
            "count": "1",
        }
        assert etcd.post("/v3/kv/range", {"key": b64(at + "none")}).document.keys() == {"header"}

    def test_a_range_has_an_end_a_limit_and_a_count(self, etcd: Subject, at: str) -> None:
        etcd.post("/v3/kv/txn", txn(success=[put(at + name) for name in "cab"]))

        def read(**more: object) -> Any:
            answered = etcd.post("/v3/kv/range", {"key": b64(at), "range_end": b64(at[:-1] + "0"), **more}).document
            keys = "".join(base64.b64decode(each["key"]).decode()[-1] for each in answered.get("kvs", []))
            values = {each.get("value") for each in answered.get("kvs", [])}
            return keys, values, answered.get("more"), answered["count"]

        assert read() == ("abc", {b64("v")}, None, "3")
        assert read(limit="2") == ("ab", {b64("v")}, True, "3")
        assert read(limit=3) == ("abc", {b64("v")}, None, "3")
        assert read(keys_only=True) == ("abc", {None}, None, "3")
        assert read(count_only=True, limit=1) == ("", set(), None, "3")
        assert read(sort_order="DESCEND", limit=2) == ("cb", {b64("v")}, True, "3")
        assert read(range_end=b64(at + "b")) == ("a", {b64("v")}, None, "1")
        assert read(serializable=True) == ("abc", {b64("v")}, None, "3")

    def test_an_earlier_revision_can_be_read(self, etcd: Subject, at: str, now: int) -> None:
        etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("1")})
        etcd.post("/v3/kv/deleterange", {"key": b64(at)})
        (kv,) = etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(now + 1)}).document["kvs"]
        assert kv["value"] == b64("1")
        assert "kvs" not in etcd.post("/v3/kv/range", {"key": b64(at)}).document
        assert etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(now + 3)}) == FUTURE

    def test_a_delete_counts_and_changes_no_revision_where_there_is_nothing(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        assert "deleted" not in etcd.post("/v3/kv/deleterange", {"key": b64(at)}).document
        etcd.post("/v3/kv/txn", txn(success=[put(at + name) for name in "ab"]))
        gone = etcd.post("/v3/kv/deleterange", {"key": b64(at), "range_end": b64(at + "c"), "prev_kv": True})
        assert gone.document["deleted"] == "2"
        assert [each["key"] for each in gone.document["prev_kvs"]] == [b64(at + "a"), b64(at + "b")]
        assert revision(gone) == now + 2

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

    def test_what_is_refused_for_its_form(self, etcd: Subject, at: str) -> None:
        for path in ("/v3/kv/range", "/v3/kv/put", "/v3/kv/deleterange"):
            assert etcd.post(path, {}) == NO_KEY
        assert etcd.post("/v3/kv/range", b"") == NO_KEY
        for request in (txn([{}]), txn([], [{"request_put": {}}]), txn([], [], [{"request_range": {}}])):
            assert etcd.post("/v3/kv/txn", request) == NO_KEY
        unknown = refused(400, 3, "etcdserver: key not found")
        assert etcd.post("/v3/kv/txn", txn([], [{"request_bogus": {"key": b64(at)}}])) == unknown
        for body in (b"nonsense", b"[]", b'{"key": 3}', b'{"key": "YQ==", "limit": "x"}'):
            answered = etcd.post("/v3/kv/range", body)
            assert (answered.status, answered.document["code"]) == (400, 3), body
        assert etcd.post("/v3/kv/nothing", {}).status == 404

    def test_leases_have_a_time_to_live_and_take_their_keys_with_them(self, etcd: Subject, at: str) -> None:
        lease = etcd.post("/v3/lease/grant", {"TTL": "60"}).document["ID"]
        etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("v"), "lease": lease})
        for path in ("/v3/lease/timetolive", "/v3/kv/lease/timetolive"):
            shown = etcd.post(path, {"ID": lease, "keys": True}).document
            assert shown.pop("TTL") in ("59", "58")
            assert {**shown, "header": 0} == {"header": 0, "ID": lease, "grantedTTL": "60", "keys": [b64(at)]}
        exists = etcd.post("/v3/lease/grant", {"TTL": 60, "ID": lease})
        assert exists == refused(412, 9, "etcdserver: lease already exists")
        before = etcd.post("/v3/kv/range", {"key": b64(at)})
        assert before.document["kvs"][0]["lease"] == lease
        gone = etcd.post("/v3/lease/revoke", {"ID": lease})
        assert gone.document.keys() == {"header"}
        assert revision(gone) == revision(before) + 1
        assert "kvs" not in etcd.post("/v3/kv/range", {"key": b64(at)}).document
        assert etcd.post("/v3/lease/revoke", {"ID": lease}) == NO_LEASE
        shown = etcd.post("/v3/lease/timetolive", {"ID": lease}).document
        assert {**shown, "header": 0} == {"header": 0, "ID": lease, "TTL": "-1"}

    def test_a_key_that_was_put_again_without_its_lease_outlives_it(self, etcd: Subject, at: str) -> None:
        lease = etcd.post("/v3/lease/grant", {"TTL": "60"}).document["ID"]
        etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("v"), "lease": lease})
        etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("w")})
        etcd.post("/v3/lease/revoke", {"ID": lease})
        assert etcd.post("/v3/kv/range", {"key": b64(at)}).document["count"] == "1"

    def test_a_lease_lives_at_least_two_seconds_and_its_end_is_a_delete_that_watches_see(
        self, etcd: Subject, at: str
    ) -> None:
        granted = etcd.post("/v3/lease/grant", {"TTL": "1"}).document
        assert granted["TTL"] == "2"
        etcd.post("/v3/kv/txn", txn(success=[put(at + name, lease=granted["ID"]) for name in "ab"]))
        with closing(etcd.watch([create(at, range_end=b64(at + "z"))])) as watching:
            watching.next()
            etcd.pass_time(2.0)
            line = watching.next()["result"]
        now = line["header"]["revision"]
        assert line["events"] == [
            {"type": "DELETE", "kv": {"key": b64(at + name), "mod_revision": now}} for name in "ab"
        ]

    def test_one_body_opens_several_watches_and_each_change_is_a_line(self, etcd: Subject, at: str, now: int) -> None:
        creates = [create(at + "a"), create(at + "b"), create(at + "b", watch_id="7")]
        with closing(etcd.watch(creates)) as watching:
            opened = [watching.next()["result"] for _ in creates]
            assert [(each.get("watch_id"), each["created"]) for each in opened] == [
                (None, True),
                ("1", True),
                ("7", True),
            ]
            etcd.post("/v3/kv/txn", txn(success=[put(at + "b"), put(at + "none")]))
            lines = [watching.next()["result"] for _ in range(2)]
            assert {line["watch_id"] for line in lines} == {"1", "7"}
            for line in lines:
                assert line["header"]["revision"] == str(now + 1)
                (event,) = line["events"]
                assert event.keys() == {"kv"}
                assert event["kv"]["mod_revision"] == str(now + 1)
            etcd.post("/v3/kv/deleterange", {"key": b64(at + "a")})  # it is not there
            etcd.post("/v3/kv/put", {"key": b64(at + "a")})
            etcd.post("/v3/kv/deleterange", {"key": b64(at + "a")})
            assert "watch_id" not in watching.next()["result"]
            assert watching.next()["result"]["events"] == [
                {"type": "DELETE", "kv": {"key": b64(at + "a"), "mod_revision": str(now + 3)}}
            ]

    def test_a_watch_from_an_earlier_revision_starts_with_all_changes_since(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        etcd.post("/v3/kv/put", {"key": b64(at)})
        etcd.post("/v3/kv/txn", txn(success=[put(at + "b"), delete(at)]))
        with closing(etcd.watch([create(at, range_end=b64(at + "z"), start_revision=str(now + 1))])) as watching:
            watching.next()
            line = watching.next()["result"]
            assert [each["kv"]["mod_revision"] for each in line["events"]] == [str(now + 1), *[str(now + 2)] * 2]
            assert line["header"]["revision"] == str(now + 2)
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert len(watching.next()["result"]["events"]) == 1

    def test_a_watch_of_the_future_waits_for_it(self, etcd: Subject, at: str, now: int) -> None:
        with closing(etcd.watch([create(at, start_revision=str(now + 2))])) as watching:
            watching.next()
            for value in "12":
                etcd.post("/v3/kv/put", {"key": b64(at), "value": b64(value)})
            (event,) = watching.next()["result"]["events"]
            assert event["kv"]["value"] == b64("2")

    def test_a_watch_that_cannot_be_is_refused_and_others_of_its_stream_go_on(self, etcd: Subject, at: str) -> None:
        with closing(etcd.watch([create(at, range_end=b64(at)), create(at)])) as watching:
            line = watching.next()["result"]
            assert {**line, "header": 0} == {
                "header": 0,
                "watch_id": "-1",
                "created": True,
                "canceled": True,
                "cancel_reason": "mvcc: watcher range is empty",
            }
            assert watching.next()["result"]["created"] is True
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert "events" in watching.next()["result"]

    def test_a_body_that_is_no_json_opens_no_stream(self, etcd: Subject) -> None:
        with closing(etcd.watch([b"garbage"])) as watching:
            assert watching.next()["code"] == 2

    def test_what_was_compacted_is_neither_read_nor_watched(self, etcd: Subject, at: str, now: int) -> None:
        for value in "123":
            etcd.post("/v3/kv/put", {"key": b64(at), "value": b64(value)})
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 2)}).status == 200
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 2)}) == COMPACTED
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 9)}) == FUTURE
        for requested in (now + 2, now + 3):
            assert etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(requested)}).status == 200
        assert etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(now + 1)}) == COMPACTED
        assert etcd.post("/v3/kv/txn", txn(success=[put(at), range_(at, revision=str(now + 1))])) == COMPACTED
        creates = [create(at, start_revision=str(now + 1)), create(at)]
        with closing(etcd.watch(creates)) as watching:
            assert [watching.next()["result"]["created"] for _ in creates] == [True] * 2
            line = watching.next()["result"]
            assert "revision" not in line["header"]
            assert {**line, "header": 0} == {"header": 0, "canceled": True, "compact_revision": str(now + 2)}
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert watching.next()["result"]["watch_id"] == "1"

    def test_without_space_nothing_is_put_but_deletes_and_puts_of_inner_transactions_go_on(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        alarm = {"alarm": "NOSPACE"}
        assert etcd.post("/v3/maintenance/alarm", {}).document == {}
        etcd.post("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
        try:
            assert etcd.post("/v3/maintenance/alarm", {}).document == {"alarms": [alarm]}
            assert etcd.post("/v3/maintenance/status", {}).document["errors"] == ["alarm:NOSPACE "]
            assert etcd.post("/v3/kv/put", {"key": b64(at)}) == NO_SPACE
            assert etcd.post("/v3/kv/txn", txn([changed_at(at, 1)], [put(at)], [range_(at)])) == NO_SPACE
            assert etcd.post("/v3/kv/txn", txn(success=[put(at, lease="4711")])) == NO_SPACE
            assert etcd.post("/v3/lease/grant", {"TTL": "60"}) == NO_SPACE
            assert etcd.post("/v3/kv/txn", txn(success=[range_(at), delete(at)])).status == 200
            assert revision(etcd.post("/v3/kv/txn", txn(success=[inner([], [put(at)])]))) == now + 1
            assert etcd.post("/v3/kv/deleterange", {"key": b64(at)}).document["deleted"] == "1"
        finally:
            cleared = etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
        assert cleared.document == {"alarms": [alarm]}
        assert etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm}).document == {}
        assert etcd.post("/v3/kv/put", {"key": b64(at)}).status == 200

    def test_a_request_that_is_too_large_is_refused_with_the_code_of_a_full_database_if_it_is_huge(
        self, etcd: Subject, at: str
    ) -> None:
        too_large = refused(400, 3, "etcdserver: request is too large")
        assert etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("x" * 1_400_000)}).status == 200
        assert etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("x" * 1_700_000)}) == too_large
        huge = etcd.post("/v3/kv/put", {"key": b64(at), "value": b64("x" * 2_500_000)})
        assert (huge.status, huge.document["code"]) == (429, 8)
        assert huge.document["message"].startswith("grpc: received message larger than max (")

    def test_an_alarm_of_a_member_ends_when_that_member_is_named(self, etcd: Subject) -> None:
        member = etcd.post("/v3/maintenance/status", {}).document["header"]["member_id"]
        alarm = {"memberID": member, "alarm": "NOSPACE"}
        etcd.post("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
        try:
            unnamed = etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
            assert unnamed.document == {}
            assert etcd.post("/v3/maintenance/alarm", {}).document == {"alarms": [alarm]}
            errors = etcd.post("/v3/maintenance/status", {}).document["errors"]
            assert errors == [f"memberID:{member} alarm:NOSPACE "]
        finally:
            ended = etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
        assert ended.document == {"alarms": [alarm]}

    def test_the_status_shows_version_leader_and_size(self, etcd: Subject) -> None:
        status = etcd.post("/v3/maintenance/status", {}).document
        assert status.keys() == {
            *("header", "version", "dbSize", "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSizeInUse")
        }
        assert status["version"] == "3.4.23"
        assert status["leader"] == status["header"]["member_id"]
        assert int(status["dbSize"]) > 0

    def test_without_authentication_there_are_no_tokens(self, etcd: Subject, at: str) -> None:
        off = refused(412, 9, "etcdserver: authentication is not enabled")
        assert etcd.post("/v3/auth/authenticate", {"name": "root", "password": "x"}) == off
        assert etcd.post("/v3/kv/range", {"key": b64(at)}, "some.1") == BAD_TOKEN

    def test_a_user_reaches_what_its_role_permits(self, etcd: Subject, at: str) -> None:
        with authentication(etcd, at) as (_, token):
            assert etcd.post("/v3/kv/put", {"key": b64(at + "a"), "value": b64("v")}, token).status == 200
            whole = {"key": b64(at), "range_end": b64(at[:-1] + "0")}
            assert etcd.post("/v3/kv/range", whole, token).document["count"] == "1"
            assert etcd.post("/v3/kv/range", {**whole, "range_end": b64(at[:-1] + "1")}, token) == DENIED
            for other in ({"key": b64("/other")}, {"key": b64("/"), "range_end": b64("0")}):
                assert etcd.post("/v3/kv/range", other, token) == DENIED
                assert etcd.post("/v3/kv/deleterange", other, token) == DENIED
                assert etcd.post("/v3/kv/txn", txn(success=[{"request_range": other}]), token) == DENIED
            assert etcd.post("/v3/kv/put", {"key": b64("/other")}, token) == DENIED
            assert etcd.post("/v3/kv/txn", txn([changed_at("/other", 1)]), token) == DENIED
            # Only the branch is refused that is not taken, and inner transactions are not looked into.
            assert etcd.post("/v3/kv/txn", txn([changed_at(at, 1)], [put("/other")]), token) == DENIED
            assert etcd.post("/v3/kv/txn", txn(success=[inner([], [range_("/other")])]), token).status == 200
            assert etcd.post("/v3/auth/user/add", {"name": "x", "password": "y"}, token) == DENIED
            with closing(etcd.watch([create("/other"), create(at)], token)) as watching:
                reason = watching.next()["result"]["cancel_reason"]
                assert reason == "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
                assert "canceled" not in watching.next()["result"]

    def test_a_request_needs_a_token_that_is_known(self, etcd: Subject, at: str) -> None:
        with authentication(etcd, at) as (root, token):
            for path, request in (
                ("/v3/kv/range", {"key": b64(at)}),
                ("/v3/kv/put", {"key": b64(at)}),
                ("/v3/kv/txn", txn([changed_at(at, 0)], [put(at)], [range_(at)])),
            ):
                assert etcd.post(path, request) == NO_USER
                assert etcd.post(path, request, "bad") == BAD_TOKEN
            assert etcd.post("/v3/lease/grant", {"TTL": "60"}, "bad") == BAD_TOKEN
            assert etcd.post("/v3/lease/grant", {"TTL": "60"}).status == 200
            assert etcd.post("/v3/lease/timetolive", {"ID": "4711"}, "bad").status == 200
            assert etcd.post("/v3/maintenance/status", {}, "bad").status == 200
            assert etcd.post("/v3/maintenance/alarm", {}).status == 200
            assert etcd.post("/v3/maintenance/alarm", {}, "bad") == refused(500, 2, "auth: invalid auth token")
            with closing(etcd.watch([create(at)])) as watching:
                reason = watching.next()["result"]["cancel_reason"]
                assert reason == "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
            etcd.post("/v3/auth/user/changepw", {"name": "user", "password": "new"}, root)
            assert etcd.post("/v3/kv/range", {"key": b64(at)}, token) == BAD_TOKEN
            wrong = refused(400, 3, "etcdserver: authentication failed, invalid user ID or password")
            assert etcd.post("/v3/auth/authenticate", {"name": "user", "password": "word"}) == wrong
            assert etcd.post("/v3/auth/authenticate", {"name": "nobody", "password": "word"}) == wrong
