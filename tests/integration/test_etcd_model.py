"""The model etcd over sockets and the real etcd behave the same."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.certificates import Authority
from tests.support.etcd.cluster_contract import ClusterContract
from tests.support.etcd.clusters import RealCluster
from tests.support.etcd.contract import Contract
from tests.support.etcd.documents import create, revision
from tests.support.etcd.encoding import b64
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.random_requests import LEASES, RandomRequests
from tests.support.etcd.real import Certificates, RealEtcd, needs_etcd
from tests.support.etcd.server import ModelServer
from tests.support.etcd.subjects import Answered, BehindSocket, InMemory, Real, Subject
from tests.support.process import PATIENCE

EVERYTHING = {"key": b64("\0"), "range_end": b64("\0")}
REQUESTS = 1000
KEY = {"key": b64("key")}


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


def test_a_model_member_that_is_stopped_refuses_connections_and_comes_back_at_its_address() -> None:
    with closing(BehindSocket()) as etcd:
        with closing(etcd.watch([create("key")])) as watching:
            watching.next()
            with etcd.server.changing() as model:
                model.stop("e1")
            assert watching.broken()
        with pytest.raises(ConnectionRefusedError):
            etcd.watch([create("key")])
        etcd.disconnect()
        with etcd.server.changing() as model:
            model.start("e1")
        assert etcd.post("/v3/kv/put", KEY).status == 200


def test_a_model_member_that_hangs_answers_when_it_goes_on() -> None:
    with closing(BehindSocket()) as etcd, ThreadPoolExecutor(1) as thread:
        with etcd.server.changing() as model:
            model.hang("e1")
        answered = thread.submit(etcd.post, "/v3/kv/put", KEY)
        etcd.server.wait_for_request("e1")
        assert not answered.done()
        with etcd.server.changing() as model:
            assert model.keyspace.revision == 1
            model.resume("e1")
        assert revision(answered.result()) == 2


def test_the_model_may_need_tls(tmp_path: Path) -> None:
    authority = Authority()
    key, certificate = authority.write(tmp_path, "server", ["127.0.0.1"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with closing(ModelServer(ModelEtcd(time.monotonic), tls=tls)) as server:
        url = urlsplit(server.endpoints["e1"])
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        connection = HTTPSConnection(url.hostname or "", url.port, timeout=PATIENCE, context=trusting)
        with closing(connection):
            connection.request("POST", "/v3/maintenance/status", b"{}")
            assert connection.getresponse().status == 200


@needs_etcd
@pytest.mark.parametrize("for_clients", [False, True])
def test_real_members_may_need_certificates(tmp_path: Path, for_clients: bool) -> None:
    certificates = Certificates(tmp_path, Authority(), for_clients)
    with closing(RealEtcd(tmp_path, certificates=certificates)) as etcd:
        assert etcd.post("/v3/kv/put", KEY).status == 200


@needs_etcd
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


@needs_etcd
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
