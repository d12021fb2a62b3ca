"""The model etcd over sockets and the real etcd behave the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.etcd.contract import Contract
from tests.support.etcd.real import ETCD, RealEtcd
from tests.support.etcd.subjects import BehindSocket, Real


class TestBehindSocket(Contract):
    @pytest.fixture
    def etcd(self) -> Iterator[BehindSocket]:
        with closing(BehindSocket()) as subject:
            yield subject


@pytest.mark.skipif(ETCD is None, reason="etcd is not installed")
class TestReal(Contract):
    @pytest.fixture(scope="class")
    def cluster(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEtcd]:
        with closing(RealEtcd(tmp_path_factory.mktemp("etcd"))) as cluster:
            yield cluster

    @pytest.fixture
    def etcd(self, cluster: RealEtcd) -> Iterator[Real]:
        with closing(Real(cluster.members["e1"])) as subject:
            yield subject
