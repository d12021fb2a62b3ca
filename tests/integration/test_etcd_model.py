"""The model etcd over sockets and the real etcd behave the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.etcd.cluster_contract import ClusterContract
from tests.support.etcd.clusters import RealCluster
from tests.support.etcd.contract import Contract, b64, create, revision
from tests.support.etcd.random_requests import LEASES, RandomRequests
from tests.support.etcd.real import ETCD, RealEtcd
from tests.support.etcd.subjects import Answered, BehindSocket, InMemory, Real, Subject

EVERYTHING = {"key": b64("\0"), "range_end": b64("\0")}
REQUESTS = 1000


@pytest.fixture(scope="module")
def one_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEtcd]:
    with closing(RealEtcd(tmp_path_factory.mktemp("etcd"))) as etcd:
        yield etcd


@pytest.fixture(scope="module")
def three_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with closing(RealCluster(tmp_path_factory.mktemp("etcd"))) as cluster:
        yield cluster


class TestBehindSocket(Contract):
    @pytest.fixture
    def etcd(self) -> Iterator[BehindSocket]:
        with closing(BehindSocket()) as subject:
            yield subject


@pytest.mark.skipif(ETCD is None, reason="etcd is not installed")
class TestReal(Contract):
    @pytest.fixture
    def etcd(self, one_member: RealEtcd) -> Iterator[Real]:
        with closing(Real(one_member.members["e1"])) as subject:
            yield subject

    @pytest.mark.parametrize("seed", range(3))
    def test_random_requests_are_answered_as_by_the_model(self, etcd: Real, seed: int) -> None:
        model = _empty(etcd)
        requests = RandomRequests(seed)
        began = requests.revision = model.model.keyspace.revision
        statuses = set()
        for _ in range(REQUESTS):
            path, request = requests.next()
            answered = etcd.post(path, request)
            assert _comparable(answered) == _comparable(model.post(path, request)), (path, request)
            requests.revision = model.model.keyspace.revision
            statuses.add(answered.status)
        assert statuses == {200, 400, 404, 412, 429}
        since = max(began, model.model.keyspace.compacted) + 1
        events = [_events(subject, since, requests.revision) for subject in (etcd, model)]
        assert events[0] == events[1] != []


@pytest.mark.skipif(ETCD is None, reason="etcd is not installed")
class TestRealCluster(ClusterContract):
    @pytest.fixture
    def cluster(self, three_members: RealCluster) -> RealCluster:
        return three_members


def _empty(etcd: Real) -> InMemory:
    """Delete everything; return a model with the same revision."""
    etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    for lease in LEASES:
        etcd.post("/v3/lease/revoke", {"ID": lease})
    etcd.post("/v3/kv/put", EVERYTHING)
    now = revision(etcd.post("/v3/kv/deleterange", EVERYTHING))
    etcd.post("/v3/kv/compaction", {"revision": str(now)})
    model = InMemory()
    model.model.keyspace.revision = model.model.keyspace.compacted = now
    return model


def _comparable(answered: Answered) -> tuple[int, Any]:
    document = dict(answered.document)
    if "header" in document:
        document["header"] = document["header"].get("revision")
    document.pop("TTL", None)
    document["keys"] = sorted(document.get("keys", ()))
    return answered.status, document


def _events(etcd: Subject, since: int, until: int) -> list[Any]:
    """Return all changes from a revision to that of one more change."""
    etcd.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    etcd.post("/v3/kv/put", {"key": b64("the end")})
    events: list[Any] = []
    with closing(etcd.watch([create("\0", range_end=b64("\0"), start_revision=str(since))])) as watching:
        watching.next()
        while not events or int(events[-1]["kv"]["mod_revision"]) <= until:
            events += watching.next()["result"]["events"]
    return events
