"""The answer to the winning claim is lost: a cluster of real rqlited forms all the same, and there
is only one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event, Lock

import pytest

from tests.real.nodes import Node, assert_one_cluster
from tests.real.scenes import EXPECTED, Scene
from tests.support.process import PATIENCE
from tests.support.proxy import MUTE, Proxy

pytestmark = pytest.mark.process

HEALS_SECONDS = 60.0
RESTART_SECONDS = 8.0
WON = b"\r\n\r\ntrue"


class Claims:
    """Nodes with a proxy each, so that the winner is known before it receives its answer."""

    def __init__(self, scene: Scene, proxies: list[Proxy]) -> None:
        self.nodes = {scene.node(proxy.url): proxy for proxy in proxies}
        self.winner: Node | None = None
        self._was_won = Event()
        self._lock = Lock()

    def spoil(self, spoil: Callable[[Node, Proxy], None]) -> Node:
        """Start all nodes, and spoil the first answer to a winning claim; return its node."""
        for node, proxy in self.nodes.items():
            proxy.strike(partial(self._won, node, spoil), WON, "replies")
            node.start()
        assert self._was_won.wait(PATIENCE), "nobody won"
        assert self.winner is not None
        return self.winner

    def _won(self, node: Node, spoil: Callable[[Node, Proxy], None]) -> None:
        with self._lock:
            # Later winning answers go to nodes that reported themselves.
            is_first, self.winner = self.winner is None, self.winner or node
        if is_first:
            spoil(node, self.nodes[node])
            self._was_won.set()


@pytest.fixture
def claims(scene: Scene) -> Iterator[Claims]:
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy()) for _ in range(EXPECTED)]
        for proxy in proxies:
            proxy.target = scene.daemon.port
        yield Claims(scene, proxies)


def lose(node: Node, proxy: Proxy) -> None:
    """Break the connection before the answer on its way arrives; later ones arrive."""
    proxy.spoil(MUTE)
    proxy.loop.call_soon(proxy.heal)


def kill(node: Node, proxy: Proxy) -> None:
    """Kill the node before it receives the answer."""
    node.kill()


def test_a_cluster_forms_by_itself_although_the_winner_never_received_its_answer(scene: Scene, claims: Claims) -> None:
    claims.spoil(lose)
    leader = assert_one_cluster(scene.nodes, seconds=HEALS_SECONDS)
    assert [node.starts for node in scene.nodes] == [1] * EXPECTED
    assert scene.recorded() is leader


def test_a_cluster_forms_although_the_winner_died_of_its_claim_and_comes_back_later(
    scene: Scene, claims: Claims
) -> None:
    winner = claims.spoil(kill)
    # The others ask in the meantime, each of them once or twice.
    time.sleep(RESTART_SECONDS)
    winner.start()
    leader = assert_one_cluster(scene.nodes, seconds=HEALS_SECONDS)
    assert [node.starts for node in scene.nodes if node is not winner] == [1] * (EXPECTED - 1)
    assert scene.recorded() is leader
