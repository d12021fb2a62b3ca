"""The effects of members' faults, in the model and in the real etcd."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from tests.support.etcd.clusters import NAMES, STATUS, Cluster
from tests.support.etcd.documents import create, refused
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Answered

KEY = {"key": b64("key")}
TIMED_OUT = refused(503, 14, "etcdserver: request timed out")
DEADLINE = refused(500, 2, "context deadline exceeded")
NO_LEADER = refused(503, 14, "etcdserver: no leader")
END_OF_STREAM = {
    "error": {
        "grpc_code": 14,
        "http_code": 503,
        "message": "etcdserver: no leader",
        "http_status": "Service Unavailable",
    }
}


def post(cluster: Cluster, name: str, path: str, document: object) -> Any:
    answered = cluster.send(name, path, document).result()
    assert answered.status == 200, answered
    return answered.document


def results(cluster: Cluster, name: str, requests: Sequence[tuple[str, object]]) -> list[Answered]:
    """Return the answers to requests that are sent at the same time."""
    return [sent.result() for sent in [cluster.send(name, *request) for request in requests]]


def others(name: str) -> list[str]:
    return [each for each in NAMES if each != name]


class ClusterContract:
    """The tests. A subclass has a fixture `cluster`."""

    @pytest.fixture
    def cluster(self) -> Cluster:
        raise NotImplementedError

    def test_a_member_that_was_down_has_what_was_written_meanwhile(self, cluster: Cluster) -> None:
        down, up = others(cluster.leader())
        with closing(cluster.watch(down, [create("key")])) as watching:
            watching.next()
            cluster.stop(down)
            assert watching.broken()
        written = post(cluster, up, "/v3/kv/put", KEY)
        cluster.start(down)
        read = post(cluster, down, "/v3/kv/range", KEY)
        assert read["count"] == "1"
        assert read["header"]["revision"] == written["header"]["revision"]
        assert read["header"]["cluster_id"] == written["header"]["cluster_id"]
        assert read["header"]["member_id"] != written["header"]["member_id"]

    def test_an_election_gives_leases_their_full_time_again(self, cluster: Cluster) -> None:
        before = cluster.leader()
        follower, _ = others(before)
        granted = post(cluster, follower, "/v3/lease/grant", {"TTL": "60"})
        cluster.pass_time(30.0)
        cluster.stop(before)
        assert cluster.leader() != before
        shown = post(cluster, follower, "/v3/lease/timetolive", {"ID": granted["ID"]})
        assert int(shown["TTL"]) >= 59
        assert int(shown["header"]["raft_term"]) > int(granted["header"]["raft_term"])
        cluster.start(before)

    def test_without_a_majority_only_the_status_answers_and_streams_end(self, cluster: Cluster) -> None:
        alone, *gone = NAMES
        lease = post(cluster, alone, "/v3/lease/grant", {"TTL": "60"})["ID"]
        with closing(cluster.watch(alone, [create("key")])) as watching:
            watching.next()
            for name in gone:
                cluster.hang(name)
            cluster.miss_leader(alone)
            assert watching.next() == END_OF_STREAM
        with closing(cluster.watch(alone, [create("key")])) as watching:
            assert watching.next() == END_OF_STREAM
        status = post(cluster, alone, STATUS, {})
        assert status["errors"] == ["etcdserver: no leader"]
        assert results(
            cluster,
            alone,
            [
                ("/v3/kv/range", KEY),
                ("/v3/kv/put", KEY),
                ("/v3/kv/txn", {"success": [{"request_put": KEY}]}),
                ("/v3/lease/grant", {"TTL": "60"}),
                ("/v3/lease/revoke", {"ID": lease}),
                ("/v3/lease/timetolive", {"ID": lease}),
                ("/v3/maintenance/alarm", {}),
            ],
        ) == [TIMED_OUT, DEADLINE, DEADLINE, DEADLINE, DEADLINE, NO_LEADER, DEADLINE]
        stale = post(cluster, alone, "/v3/kv/range", {**KEY, "serializable": True})
        assert stale["header"]["revision"] == status["header"]["revision"]
        for name in gone:
            cluster.resume(name)
        cluster.leader()
        assert post(cluster, alone, "/v3/lease/timetolive", {"ID": lease})["grantedTTL"] == "60"

    def test_what_was_sent_to_a_member_that_hangs_is_applied_when_it_goes_on(self, cluster: Cluster) -> None:
        hanging, up = others(cluster.leader())
        key = {"key": b64("late")}
        cluster.hang(hanging)
        sent = cluster.send(hanging, "/v3/kv/put", key)
        assert "count" not in post(cluster, up, "/v3/kv/range", key)
        cluster.resume(hanging)
        sent.result()
        assert post(cluster, up, "/v3/kv/range", key)["count"] == "1"

    def test_a_backup_that_is_put_back_has_the_same_cluster_and_an_earlier_revision(self, cluster: Cluster) -> None:
        saved = post(cluster, "e1", "/v3/kv/put", KEY)["header"]
        cluster.save()
        for _ in range(3):
            lost = post(cluster, cluster.leader(), "/v3/kv/put", KEY)["header"]
        cluster.restore()
        back = post(cluster, cluster.leader(), "/v3/kv/range", KEY)["header"]
        assert back["cluster_id"] == saved["cluster_id"]
        assert back["revision"] == saved["revision"] < lost["revision"]
