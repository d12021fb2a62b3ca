"""Several real rqlited on one host, each left at localhost, as in the example of the original
service.
"""

from __future__ import annotations

import pytest

from tests.real.nodes import assert_one_cluster
from tests.real.scenes import Scene, free_addresses

pytestmark = pytest.mark.process


def test_three_nodes_at_localhost_form_one_cluster(scene: Scene) -> None:
    nodes = [scene.node(addresses=free_addresses("localhost")) for _ in range(3)]
    for node in nodes:
        node.start()
    assert_one_cluster(nodes)
    assert sorted(scene.daemon.nodes(scene.id)) == sorted(node.http_addr for node in nodes)
