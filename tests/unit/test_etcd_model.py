"""The model etcd in memory behaves as etcd does; tests/integration has the same over sockets and
with the real one.
"""

from __future__ import annotations

import pytest

from tests.support.etcd.cluster_contract import ClusterContract
from tests.support.etcd.clusters import ModelCluster
from tests.support.etcd.contract import Contract
from tests.support.etcd.subjects import InMemory


class TestInMemory(Contract):
    @pytest.fixture
    def etcd(self) -> InMemory:
        return InMemory()


class TestModelCluster(ClusterContract):
    @pytest.fixture
    def cluster(self) -> ModelCluster:
        return ModelCluster()
