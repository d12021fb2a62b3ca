"""Clusters of rqlite 7-10 that form through the real daemon's consul-kv: always one leader, never
two.

Where a bug of rqlite's leaves nodes waiting for ever, that is asserted: no second cluster, and
there is a cure. Where claims are visible, as in Consul, that happens after one lost answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import permutations
from operator import attrgetter
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support import rqlited
from tests.support.consul_nodes import RELEASES, ConsulNode, ConsulRelease, leader_value
from tests.support.process import DaemonProcess
from tests.support.virtual import Peer, Service, VirtualNetwork, World

pytestmark = pytest.mark.process

ROUNDS = 60
# The releases of one line can be one cluster; rqlite 8 cannot read a snapshot of 7's, nor 10 one of
# 8's or 9's.
MIXES = (RELEASES[:2], RELEASES[2:4], RELEASES[4:])
LONG = 120.0
FOR_EVER = 900.0
AWAITS = "503 a claim awaits its owner's first report"
WAITS_FOR_A_LEADER = "claims wait: nodes are registered, but no leader has reported itself"


class Scene:
    """Three nodes of mixed releases that are about to form a cluster, and their daemon."""

    def __init__(
        self,
        daemon: DaemonProcess,
        seed: int,
        releases: Sequence[ConsulRelease] = (),
        *,
        key: str = "",
        count: int = 3,
        network: Callable[[World], VirtualNetwork] = VirtualNetwork,
    ) -> None:
        self.daemon = daemon
        self.world = World(seed)
        self.network = network(self.world)
        self.service = Service(http=daemon.port)
        self.key = key or daemon.create_id()
        chosen = releases or self.world.random.choices(self.world.random.choice(MIXES), k=count)
        self.nodes = [self.node(release, number) for number, release in enumerate(chosen, 1)]

    def node(self, release: ConsulRelease, number: int) -> ConsulNode:
        return ConsulNode(release, number, self.key, self.service, self.world, self.network)

    def start_all(self) -> None:
        for node in self.nodes:
            node.start()

    def steps(self, count: int) -> None:
        """Let the nodes do this many things."""
        for _ in range(count):
            self.world.step()

    def forms(self, seconds: float = LONG) -> bool:
        """Report whether all nodes that run are in a cluster within that time."""
        return self.world.run(seconds, self.network.is_formed)

    def assert_one_cluster(self, *members: ConsulNode) -> None:
        """Assert that these nodes, or all, are in one cluster, and there never was another."""
        assert self.forms(), self.logs
        assert len(self.network.bootstrapped) == 1, self.logs
        (found,) = self.network.clusters.values()
        assert found == sorted(node.peer.node_id for node in members or self.nodes), self.logs

    def assert_nobody_leads(self, seconds: float = FOR_EVER) -> None:
        """Assert that there is no cluster, however long one waits; which is better than two."""
        assert not self.world.run(seconds, lambda: bool(self.network.bootstrapped)), self.logs
        assert all(node.peer.cluster is None for node in self.nodes)

    def cure(self) -> None:
        """Cure nodes that wait for ever: stop all, clear the leader key and the nodes, start
        all.
        """
        for node in self.nodes:
            node.kill()
        self.clear()
        self.start_all()

    def clear(self) -> None:
        """Remove the leader key and all nodes from the record."""
        assert self.daemon.request("DELETE", f"/v1/kv/{self.key}/leader").body == b"true"
        for addr in self.daemon.nodes(self.key):
            assert self.daemon.request("DELETE", f"/{self.key}", {"addr": addr}).status == 200

    def recorded(self) -> ConsulNode | None:
        """Return the node that the leader key names."""
        reply = self.daemon.request("GET", f"/v1/kv/{self.key}/leader?raw")
        if reply.status == 404:
            return None
        (node,) = (node for node in self.nodes if node.peer.node_id == reply.document["id"])
        return node

    @property
    def logs(self) -> dict[str, list[str]]:
        return {f"{node.release.name} {node.peer.node_id}": node.log for node in self.nodes}


def test_nodes_that_start_at_once_form_one_cluster(daemon: DaemonProcess) -> None:
    for seed in range(ROUNDS):
        scene = Scene(daemon, seed, key=f"at-once-{seed}" if seed % 2 else "")
        scene.start_all()
        scene.assert_one_cluster()
        assert scene.recorded() in [node for node in scene.nodes if node.has_won]


def test_nodes_form_one_cluster_in_whatever_order_they_start(daemon: DaemonProcess) -> None:
    for mix in MIXES:
        for seed, releases in enumerate(3 * list(permutations((*mix, *mix, *mix)[:3]))):
            scene = Scene(daemon, seed, releases)
            moments = sorted(scene.world.random.uniform(0, 40) for _ in scene.nodes)
            for node, moment in zip(scene.nodes, moments, strict=True):
                node.start_in(moment)
            scene.world.run(40)
            scene.assert_one_cluster()


def test_newer_nodes_join_a_cluster_that_the_last_rqlite_7_began(daemon: DaemonProcess) -> None:
    """As they do in fact, and vote in it, before there is a snapshot: after that they are members
    without data.
    """
    scene = Scene(daemon, 1, RELEASES[1:])
    first, *newer = scene.nodes
    first.start()
    assert scene.forms()
    for node in newer:
        node.start()
    scene.assert_one_cluster()


def test_nodes_form_one_cluster_although_one_never_starts(daemon: DaemonProcess) -> None:
    for seed in range(ROUNDS // 3):
        scene = Scene(daemon, seed)
        missing, *others = scene.nodes
        for node in others:
            node.start()
        scene.assert_one_cluster(*others)
        missing.start()
        scene.assert_one_cluster()


def test_a_node_may_die_at_any_moment(daemon: DaemonProcess) -> None:
    """A node that had won but has no configuration on its disk yet wins again when it is back."""
    ends = dict.fromkeys(("others formed", "waited for it", "won again"), 0)
    for seed in range(2 * ROUNDS):
        scene = Scene(daemon, seed)
        scene.start_all()
        scene.steps(seed % 15)
        victim = scene.nodes[seed % 3]
        victim.kill()
        others = [node for node in scene.nodes if node is not victim]
        if scene.forms():
            ends["others formed"] += 1
            scene.assert_one_cluster(*others) if victim.peer.cluster is None else scene.assert_one_cluster()
        elif victim.peer.cluster is not None:
            ends["waited for it"] += 1
        else:
            assert scene.recorded() is None, scene.logs
            scene.assert_nobody_leads()
            ends["won again"] += 1
        if not victim.peer.is_up:
            victim.start()
        scene.assert_one_cluster()
    assert all(ends.values()), ends


def lose_a_winning_answer(daemon: DaemonProcess, release: ConsulRelease) -> Scene:
    """Return three nodes, of which the first never received the answer to its winning claim."""
    scene = Scene(daemon, 1, [release] * 3)
    first, *others = scene.nodes
    first.start()
    assert scene.world.run(LONG, lambda: any(b"cas=0" in request for request in first.connections.sent))
    first.connections.lose_answers()
    for node in others:
        node.start()
    return scene


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_a_node_whose_winning_answer_was_lost_claims_again_and_bootstraps(
    daemon: DaemonProcess, release: ConsulRelease
) -> None:
    scene = lose_a_winning_answer(daemon, release)
    scene.assert_one_cluster()
    assert [node.has_won for node in scene.nodes] == [True, False, False]


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_a_node_whose_winning_answer_was_lost_follows_itself_until_cured_where_claims_are_visible(
    start: Start, tmp_path: Path, release: ConsulRelease
) -> None:
    scene = lose_a_winning_answer(start(tmp_path / "state", "--kv-visible-claims"), release)
    scene.assert_nobody_leads()
    assert scene.recorded() is scene.nodes[0]
    scene.cure()
    scene.assert_one_cluster()


def clear_a_dead_leader_that_is_followed(daemon: DaemonProcess, release: ConsulRelease) -> Scene:
    """Return three nodes; the operator removed the dead first one, and did not stop the others that
    follow it.
    """
    scene = Scene(daemon, 1, [release] * 3)
    dead, *others = scene.nodes
    value = json.loads(leader_value(dead.peer))
    assert daemon.request("PUT", f"/v1/kv/{scene.key}/leader", value).body == b"true"
    for node in others:
        node.start()
    assert scene.world.run(LONG, lambda: all(node.log for node in others))
    scene.clear()
    scene.assert_nobody_leads()
    return scene


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_a_claim_won_while_a_dead_leader_is_followed_takes_effect_once_its_node_is_restarted(
    daemon: DaemonProcess, release: ConsulRelease
) -> None:
    scene = clear_a_dead_leader_that_is_followed(daemon, release)
    assert scene.recorded() is None
    (winner,) = [node for node in scene.nodes if node.has_won]
    addr = winner.peer.http_addr
    daemon.wait_for(
        f"{addr} won the claim 3 times and never reported itself: restart that rqlited", discovery_id=scene.key
    )
    winner.kill()
    winner.start()
    scene.assert_one_cluster(*scene.nodes[1:])
    assert scene.recorded() is winner


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_a_claim_won_while_a_dead_leader_is_followed_needs_a_cure_where_claims_are_visible(
    start: Start, tmp_path: Path, release: ConsulRelease
) -> None:
    scene = clear_a_dead_leader_that_is_followed(start(tmp_path / "state", "--kv-visible-claims"), release)
    assert scene.recorded() in [node for node in scene.nodes if node.has_won]
    scene.cure()
    scene.assert_one_cluster()


@pytest.mark.parametrize("release", RELEASES, ids=attrgetter("name"))
def test_clearing_only_the_leader_lets_nobody_begin_a_second_cluster(
    daemon: DaemonProcess, release: ConsulRelease
) -> None:
    scene = Scene(daemon, 1, [release] * 3)
    first, *others = scene.nodes
    first.start()
    assert scene.forms()
    scene.world.run(1)
    assert daemon.request("DELETE", f"/v1/kv/{scene.key}/leader").body == b"true"
    for node in others:
        node.start()
    scene.world.run(4)
    assert not any(node.has_won for node in others)
    assert scene.forms(400), "the leader reports itself, every 10 seconds or every 300"
    scene.assert_one_cluster()


def test_later_nodes_find_a_new_leader(daemon: DaemonProcess) -> None:
    for seed in range(ROUNDS // 3):
        scene = Scene(daemon, seed, count=4)
        *first, late = scene.nodes
        for node in first:
            node.start()
        scene.assert_one_cluster(*first)
        before = next(node for node in first if node.has_won)
        before.kill()
        late.start()
        scene.assert_one_cluster()
        assert scene.recorded() not in (before, late)
        before.start()
        scene.assert_one_cluster()


def test_nodes_wait_for_a_daemon_that_is_not_up_yet(daemon: DaemonProcess) -> None:
    for seed in range(ROUNDS // 3):
        scene = Scene(daemon, seed)
        port, scene.service.http = scene.service.http, None
        scene.start_all()
        assert not scene.forms(60)
        scene.service.http = port
        scene.assert_one_cluster()


def test_nodes_form_one_cluster_although_the_daemon_is_killed(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    for seed in range(8):
        scene = Scene(daemon, seed)
        scene.start_all()
        scene.steps(3 + 2 * seed)
        scene.service.http = None
        daemon.kill()
        scene.world.run(scene.world.random.uniform(0, 20))
        scene.daemon = daemon = start(tmp_path / "state")
        scene.service.http = daemon.port
        assert scene.forms(400), "a lost first report is repeated after 10 seconds, or 300"
        scene.assert_one_cluster()


class Mirror(VirtualNetwork):
    """Mirrors the leader to the nodes of the old protocol, too."""

    def __init__(self, old: rqlited.RqliteNetwork, world: World) -> None:
        super().__init__(world)
        self._old = old

    def bootstrap(self, members: Iterable[Peer]) -> None:
        (member,) = members
        super().bootstrap([member])
        self._old.bootstrap(member.http_addr)


@pytest.mark.parametrize("first", ["old", "new", "neither"])
def test_one_of_old_and_new_nodes_under_one_id_leads(daemon: DaemonProcess, first: str) -> None:
    """Nodes of rqlite 3-6 never put the leader key: where one of them leads, nodes of 7-10 wait and
    the log says so.

    While a claim awaits its leader's report they are refused, exit, and are restarted.
    """
    for seed in range(ROUNDS // 4):
        old = rqlited.RqliteNetwork()
        scene = Scene(daemon, seed, [RELEASES[0], *2 * RELEASES[1:2]], network=partial(Mirror, old))
        nodes = [
            rqlited.Node(version, f"10.0.1.{number}:4001", scene.key, lambda: daemon.port, old)
            for number, version in enumerate(scene.world.random.choices(rqlited.VERSIONS, k=3))
        ]
        with ThreadPoolExecutor() as pool:
            if first == "new":
                scene.start_all()
                scene.assert_one_cluster()
            running = pool.submit(rqlited.run_all, nodes)
            if first == "old":
                running.result()
            if first != "new":
                scene.start_all()
                scene.forms()
            outcomes = running.result()
        refused = [node for node, outcome in zip(nodes, outcomes, strict=True) if AWAITS in outcome.log]
        if refused:
            scene.assert_one_cluster()
            outcomes += rqlited.run_all(refused)
        kinds = [outcome.kind for outcome in outcomes]
        assert kinds.count("leader") + len(scene.network.bootstrapped) == 1, (seed, kinds, scene.logs)
        assert kinds.count("joined") + kinds.count("leader") == 3, (seed, kinds)
        assert (first == "new") <= bool(scene.network.bootstrapped) <= (first != "old")
        if scene.network.bootstrapped:
            scene.assert_one_cluster()
        else:
            scene.assert_nobody_leads(LONG)
            daemon.wait_for(WAITS_FOR_A_LEADER, discovery_id=scene.key)
