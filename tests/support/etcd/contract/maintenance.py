"""The contract of etcd: sizes, alarms and the status."""

from __future__ import annotations

from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import NO_SPACE, changed_at, delete, inner, put, range_, refused, revision, txn
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject


class MaintenanceContract(OneMember):
    """Tests of sizes, alarms and the status."""

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
