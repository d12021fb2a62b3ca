"""The contract of etcd: keys that are put, read and deleted."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import FUTURE, NO_KEY, put, refused, revision, txn
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject


class KeyContract(OneMember):
    """Tests of keys."""

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
