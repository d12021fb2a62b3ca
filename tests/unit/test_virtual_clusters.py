"""The doubles of rqlite's nodes behave like rqlite among themselves: clusters, leaders, who may join and who
bootstraps.
"""

from __future__ import annotations

from tests.support.virtual import BOTH_ENDPOINTS, NEW_ENDPOINTS, Peer, VirtualNetwork, World, leader_of


def some_peers(network: VirtualNetwork, count: int, expect: int = 0) -> list[Peer]:
    """Return running nodes."""
    peers = [
        Peer(f"n{number}", f"h{number}:1", f"h{number}:2", BOTH_ENDPOINTS, expect=expect) for number in range(count)
    ]
    for peer in peers:
        network.add(peer)
        network.switch(peer, on=True)
    return peers


def test_a_cluster_has_a_leader_while_most_of_it_runs() -> None:
    world = World(1)
    network = VirtualNetwork(world)
    first, second, third = some_peers(network, 3)
    network.bootstrap([first])
    assert not network.join(second, "h0:2", "raft"), "nobody leads yet"
    assert world.run(2, lambda: leader_of(first) is first)
    assert network.join(second, "h0:2", "raft")
    assert network.join(third, "http://h1:1", "http"), "through a follower too"
    assert network.clusters == {"n0": ["n0", "n1", "n2"]}
    network.switch(first, on=False)
    assert leader_of(second) is None
    assert not world.run(1.7, network.is_formed), "the loss of the leader has to be noticed"
    assert world.run(1.2, network.is_formed)
    assert leader_of(second) in (second, third)
    network.switch(second, on=False)
    assert not world.run(100, network.is_formed)
    network.switch(first, on=True)
    assert world.run(3, network.is_formed)


def test_endpoints_accept_addresses_of_their_kind_on_nodes_that_run_and_follow_a_leader() -> None:
    world = World(1)
    network = VirtualNetwork(world)
    joiner, leader = some_peers(network, 2)
    network.bootstrap([leader])
    world.run(2)
    leader.endpoints = NEW_ENDPOINTS
    for addr, endpoint in (("h1:1", "http"), ("h1:1", "raft"), ("h0:2", "raft"), ("h7:2", "raft"), ("h1:2:3", "raft")):
        assert not network.join(joiner, addr, endpoint)  # type: ignore[arg-type]
    network.switch(leader, on=False)
    assert not network.join(joiner, "h1:2", "raft")


def test_a_node_notified_by_as_many_as_it_expects_bootstraps_with_exactly_those() -> None:
    world = World(1)
    network = VirtualNetwork(world)
    first, second, third, fourth = some_peers(network, 4, expect=3)
    for _ in range(3):
        assert network.notify(second, "h0:2", "raft")
    network.notify(first, "h0:2", "raft")
    assert network.bootstrapped == []
    network.notify(fourth, "h0:2", "raft")
    assert [cluster.members for cluster in network.bootstrapped] == [[second, first, fourth]]
    for peer in (first, second, fourth):
        network.notify(peer, "h1:2", "raft")
    assert len(network.bootstrapped) == 1
    assert third.cluster is None
    network.switch(third, on=False)
    assert not network.notify(first, "h2:2", "raft")
