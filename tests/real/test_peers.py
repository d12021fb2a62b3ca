"""Clusters of real rqlited form through three peer daemons, one of which is killed."""

from __future__ import annotations

import pytest

from tests.real.nodes import assert_one_cluster, assert_one_cluster_of_restarted, eventually
from tests.real.scenes import Scene, ThreePeers
from tests.support.trio import NAMES, Trio

pytestmark = pytest.mark.process

AGREE_SECONDS = 60.0
FORMS_AFTER_FAULT_SECONDS = 90.0


@pytest.fixture
def trio(peers_scene: Scene) -> Trio:
    assert isinstance(peers_scene.placement, ThreePeers)
    return peers_scene.placement.trio


def assert_all_know(scene: Scene, trio: Trio) -> None:
    """Wait until every daemon lists all nodes, or the same leader."""

    def look() -> bool | None:
        if scene.case.mode == "legacy":
            expected = sorted(node.http_addr for node in scene.nodes)
            return all(sorted(listed) == expected for listed in trio.lists(scene.id)) or None
        key = f"/v1/kv/{scene.id}/leader?raw"
        answers = [daemon.request("GET", key) for daemon in trio.daemons.values()]
        leaders = {answer.document["id"] if answer.status == 200 else None for answer in answers}
        return leaders == {scene.recorded().name} or None

    assert eventually(look, AGREE_SECONDS), trio.lists(scene.id)


def test_nodes_at_three_daemons_form_one_cluster(peers_scene: Scene, trio: Trio) -> None:
    assert_one_cluster(peers_scene.three())
    assert [node.starts for node in peers_scene.nodes] == [1, 1, 1]
    assert_all_know(peers_scene, trio)


@pytest.mark.parametrize("killed", NAMES)
def test_nodes_form_one_cluster_though_a_daemon_is_killed_meanwhile(
    peers_scene: Scene, trio: Trio, killed: str
) -> None:
    peers_scene.three()
    trio.daemons[killed].kill()
    trio.start(killed)
    assert_one_cluster_of_restarted(peers_scene.nodes, seconds=FORMS_AFTER_FAULT_SECONDS)
    assert_all_know(peers_scene, trio)


def test_a_node_joins_while_the_owner_of_its_id_is_down_and_the_owner_lists_it_later(
    peers_scene: Scene, trio: Trio
) -> None:
    assert_one_cluster(peers_scene.three())
    trio.daemons["a"].kill()
    for name in "bc":
        trio.daemons[name].wait_for("peer does not answer", url=trio.url("a"))
    fourth = peers_scene.node(peers_scene.placement.urls[1])
    fourth.start()
    assert_one_cluster(peers_scene.nodes)
    assert fourth.starts == 1
    trio.start("a")
    fifth = peers_scene.node(peers_scene.placement.urls[0])
    fifth.start()
    assert_one_cluster_of_restarted(peers_scene.nodes)
    assert_all_know(peers_scene, trio)
