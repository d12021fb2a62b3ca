"""The simulator's nodes of rqlite take as long, and make the same mistakes, as real ones."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.simulated.nodes import ConsulNode, SimNode
from tests.simulated.world import World

ID = "rqlite0"


class Stage:
    """Daemons that agree, without faults, and three nodes of one ID that do not run yet."""

    def __init__(self, kind: type[SimNode], report_seconds: int = 10) -> None:
        self.world = World(1, 3, ())
        self.world.report_seconds = report_seconds
        for host in self.world.hosts:
            host.start()
        self.run(5)
        self.nodes = [kind(self.world, ID, f"n{number}:1") for number in range(3)]
        self.world.nodes.update({(ID, node.addr): node for node in self.nodes})

    def run(self, seconds: float) -> None:
        self.world.timeline.run_until(self.world.now + seconds)

    def get(self, pending: Coroutine[Any, Any, Any]) -> Any:
        """Return the answer to a client within a second."""
        got: list[Any] = []

        async def wait() -> None:
            got.append(await pending)

        self.world.spawn(wait())
        self.run(1)
        return got[0]

    def create_id(self) -> None:
        """Let nodes use an ID created by a daemon, as those of the old protocol must."""
        created = self.get(self.world.clients.create()).id
        for node in self.nodes:
            node.discovery_id = created
            self.world.nodes[created, node.addr] = node

    def moments(self, pattern: str) -> list[float]:
        """Return the times of trace lines."""
        return [float(line[:9]) for line in self.world.trace.lines if re.search(pattern, line)]

    @property
    def leader(self) -> SimNode:
        (leader,) = {node.cluster.leader for node in self.nodes if node.cluster is not None}
        assert leader is not None
        return leader


def test_joins_of_the_old_protocol_are_refused_at_first_and_retried_five_seconds_later() -> None:
    stage = Stage(SimNode)
    stage.create_id()
    for node in stage.nodes:
        node.start()
    stage.run(20)
    registered, joined = stage.moments(r"register n\d:1 at \w:  "), stage.moments(" joins ")
    assert len(joined) == 2
    assert [round(at - before, 2) for before, at in zip(registered, joined, strict=True)] == [5, 5]


def test_a_node_of_the_old_protocol_that_finds_no_leader_exits_after_five_attempts_and_asks_again() -> None:
    stage = Stage(SimNode)
    stage.create_id()
    seed, other, _ = stage.nodes
    seed.start()
    stage.run(0.5)
    seed.stop()
    other.start()
    stage.run(40)
    first, second = stage.moments("register n1:1 at")
    assert 29.9 < second - first < 30.5, "five attempts, five seconds after each, and five until it is restarted"


def test_a_claim_stays_unreported_until_its_node_is_elected() -> None:
    stage = Stage(ConsulNode)
    for node in stage.nodes:
        node.start()
    stage.run(10)
    (won,), (led,) = stage.moments("claim .*: won$"), stage.moments(" leads ")
    assert 1 <= led - won <= 2
    assert all(3 <= at - won <= 6.5 for at in stage.moments(" joins ")), "the loser waits for 3 to 6 seconds"
    assert len({node.cluster for node in stage.nodes}) == 1


@pytest.mark.parametrize("report_seconds", [10, 300])
def test_the_record_follows_a_leader_that_died_within_three_seconds(report_seconds: int) -> None:
    stage = Stage(ConsulNode, report_seconds)
    for node in stage.nodes:
        node.start()
    stage.run(10)
    before = stage.leader
    before.stop()
    stage.run(3)
    after = stage.leader
    assert after is not before
    boot = stage.world.hosts[0].boot
    assert boot is not None
    record = boot.store.newest(ID)
    assert record is not None
    assert record.leader is not None
    assert record.leader.addr == after.addr


def test_a_claim_won_by_a_node_that_is_already_joining_is_won_in_vain() -> None:
    stage = Stage(ConsulNode)
    seed, late, _ = stage.nodes
    seed.start()
    stage.run(5)
    seed.stop()
    late.start()
    stage.run(5)
    seed.is_removed = True
    assert stage.get(stage.world.clients.remove(ID, seed.addr))
    stage.run(60)
    assert stage.moments("claim n1:1 .*: won$")
    assert late.cluster is None
    assert late.won_in_vain
