"""Clusters of real rqlited form through the daemon, outlive their leader and accept later nodes."""

from __future__ import annotations

import pytest

from tests.real.nodes import assert_one_cluster, eventually
from tests.real.scenes import Scene

pytestmark = pytest.mark.process

FOLLOWS_SECONDS = 60.0


def test_three_nodes_that_start_at_once_form_one_cluster(scene: Scene) -> None:
    assert_one_cluster(scene.three())
    assert [node.starts for node in scene.nodes] == [1, 1, 1]


def test_a_cluster_outlives_its_leader_and_a_fourth_node_joins_it(scene: Scene) -> None:
    nodes = scene.three()
    before = assert_one_cluster(nodes)
    others = [node for node in nodes if node is not before]

    before.kill()
    if scene.case.mode == "consul-kv":
        assert eventually(lambda: scene.recorded() in others or None, FOLLOWS_SECONDS)
    assert_one_cluster(nodes, running=others)

    fourth = scene.node()
    fourth.start()
    assert_one_cluster([*nodes, fourth], running=[*others, fourth])
    before.start()
    assert_one_cluster([*nodes, fourth])
