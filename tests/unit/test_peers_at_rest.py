"""Daemons at rest hold nothing of what they did: memory does not grow with the number of requests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.state import ignore
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.core.records import Node
from tests.support.gossip import GossipDaemon, create_id, go, register, settle, trio

NODES = [Node(addr=f"n{number}:4001") for number in range(2)]
PUTS = [
    decode_put(f'{{"id":"{number}","api_addr":"h{number}:1","addr":"n{number}:4002"}}'.encode()) for number in (0, 1)
]
# What the state of the machine holds of things under way.
UNDER_WAY = (
    "barriers",
    "convergence_waits",
    "created_before_ready",
    "flushes",
    "outgoing",
    "pending_grants",
    "pulling",
    "replication_waits",
    "requests",
    "reservations",
    "takeovers_begun",
    "timers",
    "unidentified",
    "writes",
)


def held(daemon: GossipDaemon) -> dict[str, Any]:
    """Return what a daemon still holds of requests, messages and writes, by kind."""
    state, driver = daemon.state, daemon.backend.driver
    found = {name: getattr(state, name) for name in UNDER_WAY}
    for name in ("_received", "_inputs", "_requests", "_sends"):
        found[name] = getattr(driver, name)
    # Those that only end the rests between exchanges stay.
    found["timers"] = [each for each in state.timers if each[2].function is not ignore]
    found["hints"], found["undeleted"] = state.hints.count, state.hints.undeleted
    known = {peer.key for peer in state.peers.values()}
    found["former peers"] = state.contacts.keys() - known
    for peer in state.contacts.values():
        left = (peer.waiting, peer.this_round, peer.next_round, peer.pushes_in_flight, peer.is_greeting)
        found[f"peer {peer.url}"] = [each for each in left if each]
    return {what: content for what, content in found.items() if content}


def hold_disk(daemon: GossipDaemon, *, on: bool) -> None:
    """Let what a daemon writes wait, or let it all be written."""
    daemon.threads.hold = on
    if not on:
        daemon.threads.release_all()


def requests(random: Random, daemon: GossipDaemon, ids: list[str]) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """Return one request of each kind."""
    directory, discovery_id = daemon.directory, random.choice([*ids, "orders", "00000000-0000-8000-8000-000000000000"])
    node, put = random.choice(NODES), random.choice(PUTS)
    return [
        directory.create,
        lambda: directory.create_named(f"name{random.randrange(100)}"),
        lambda: directory.register(discovery_id, node, None),
        lambda: directory.register(discovery_id, node, None),
        lambda: directory.remove(discovery_id, node.addr),
        lambda: directory.claim(discovery_id, put, None),
        lambda: directory.report(discovery_id, PUTS[0], None),
        lambda: directory.clear_leader(discovery_id),
        lambda: directory.look_up_at_owner(discovery_id),
        lambda: directory.inspect(discovery_id),
    ]


def ask(random: Random, daemon: GossipDaemon, ids: list[str]) -> Deferred[Any]:
    """Send a request of any kind; what it is answered does not matter here."""
    asked = Deferred.fromCoroutine(random.choice(requests(random, daemon, ids))())
    asked.addErrback(lambda failure: failure.trap(RequestRefused, StoreUnavailable, CancelledError))
    return asked


@pytest.mark.parametrize("seed", range(6))
def test_daemons_hold_nothing_of_what_they_did_under_faults(clock: Clock, seed: int) -> None:
    random = Random(seed)
    network, _ = trio(clock)
    ids = [create_id(daemon) for daemon in network.daemons.values()]
    asked: list[Deferred[Any]] = []
    for _ in range(300):
        daemon = random.choice(list(network.daemons.values()))
        asked.append(ask(random, daemon, ids))
        fault = random.random()
        if fault < 0.05:
            network.split(daemon.name)
        elif fault < 0.1:
            network.unreachable.add((daemon.name, random.choice("abc")))
        elif fault < 0.2:
            network.heal()
        elif fault < 0.4:
            hold_disk(daemon, on=not daemon.threads.hold)
        elif fault < 0.45:
            daemon.disk.room = None if daemon.disk.room == 0 else 0
        elif fault < 0.47:
            hold_disk(daemon, on=False)
            daemon.restart()
        elif fault < 0.7:
            random.choice(asked[-4:]).cancel()
        settle(clock, random.choice((0, 0, 0, 0.1, 0.1, 2)))
    network.heal()
    for daemon in network.daemons.values():
        daemon.disk.room = None
        hold_disk(daemon, on=False)
    settle(clock, 60)
    assert {name: held(daemon) for name, daemon in network.daemons.items()} == {"a": {}, "b": {}, "c": {}}
    assert all(daemon.is_converged for daemon in network.daemons.values())


def test_daemons_hold_nothing_of_requests_whose_clients_went_away(clock: Clock) -> None:
    random = Random(1)
    _, daemons = trio(clock)
    ids = [create_id(daemon) for daemon in daemons]
    for _ in range(100):
        for daemon in daemons:
            hold_disk(daemon, on=random.random() < 0.7)
        asked = [ask(random, random.choice(daemons), ids) for _ in range(5)]
        for daemon in daemons:
            for _ in range(random.randrange(4)):
                if daemon.threads.held:
                    daemon.threads.release()
        for each in asked:
            each.cancel()
        for daemon in daemons:
            hold_disk(daemon, on=False)
    settle(clock, 20)
    assert [held(daemon) for daemon in daemons] == [{}, {}, {}]
    assert go(daemons[0].directory.create()).id


@pytest.mark.parametrize("at", ["owner", "another"])
@pytest.mark.parametrize("phase", ["list unwritten", "peers asked", "grant unwritten", "grant unacknowledged"])
def test_a_node_that_goes_away_before_its_answer_leaves_nothing_and_the_next_one_bootstraps(
    clock: Clock, phase: str, at: str
) -> None:
    network, (a, b, c) = trio(clock)
    discovery_id = create_id(a)
    if phase in ("list unwritten", "peers asked"):
        # All peers are asked before a grant on a list that was emptied.
        register(c, discovery_id, "n1:4001")
        settle(clock, 2)
        hold_disk(a, on=phase == "list unwritten")
        Deferred.fromCoroutine(a.directory.remove(discovery_id, "n1:4001"))
    if phase == "peers asked":
        network.swallowed.add(("a", "barrier"))
    elif phase == "grant unwritten":
        hold_disk(a, on=True)
    elif phase == "grant unacknowledged":
        network.swallowed |= {("a", "push"), ("a", "digest")}
    asked = Deferred.fromCoroutine((a if at == "owner" else b).directory.register(discovery_id, NODES[0], None))
    assert not asked.called
    asked.addErrback(lambda failure: failure.trap(CancelledError))
    asked.cancel()
    network.swallowed.clear()
    hold_disk(a, on=False)
    # The pushes whose answers were lost are given up.
    settle(clock, 2.5)
    assert register(c, discovery_id, "n2:4001") == ["n2:4001"]
    settle(clock, 20)
    assert [held(daemon) for daemon in (a, b, c)] == [{}, {}, {}]
