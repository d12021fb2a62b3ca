"""Clusters of real rqlited form through the daemon, outlive their leader and accept later nodes."""

from __future__ import annotations

import time

import pytest

from tests.real.nodes import assert_one_cluster
from tests.real.scenes import Scene

pytestmark = pytest.mark.process

FOLLOWS_SECONDS = 10.0


def test_three_nodes_that_start_at_once_form_one_cluster(scene: Scene) -> None:
    assert_one_cluster(scene.three())
    assert [node.starts for node in scene.nodes] == [1, 1, 1]


def test_a_cluster_outlives_its_leader_and_a_fourth_node_joins_it(scene: Scene) -> None:
    nodes = scene.three()
    before = assert_one_cluster(nodes)
    others = [node for node in nodes if node is not before]

    logged, killed = len(scene.daemon.events), time.monotonic()
    before.kill()
    if scene.case.mode == "consul-kv":
        scene.daemon.wait_for("leader report", logged, discovery_id=scene.id)
        assert time.monotonic() - killed < FOLLOWS_SECONDS
        assert scene.recorded() in others
    assert_one_cluster(nodes, running=others)

    fourth = scene.node()
    fourth.start()
    assert_one_cluster([*nodes, fourth], running=[*others, fourth])
    before.start()
    assert_one_cluster([*nodes, fourth])
