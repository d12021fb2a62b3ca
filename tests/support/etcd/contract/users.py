"""The contract of etcd: users, roles and tokens."""

from __future__ import annotations

from contextlib import closing

from tests.support.etcd.authentication import authentication
from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import (
    BAD_TOKEN,
    DENIED,
    NO_USER,
    changed_at,
    create,
    inner,
    put,
    range_,
    refused,
    txn,
)
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject


class UserContract(OneMember):
    """Tests of authentication."""

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
