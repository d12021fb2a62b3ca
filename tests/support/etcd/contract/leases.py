"""The contract of etcd: leases, and the keys that they take with them."""

from __future__ import annotations

from contextlib import closing

from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import NO_LEASE, create, put, refused, revision, txn
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject


class LeaseContract(OneMember):
    """Tests of leases."""

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
