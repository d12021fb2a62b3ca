"""Situations of three daemons, and what is seen of daemons that start in them.
`tests.support.golden_peers` reads what was recorded of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.codec import decode_put
from rqdisco.core.errors import NoSuccessor
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from tests.support.daemon import DAY
from tests.support.golden_peers import NAMES, RecordingNetwork, cluster, contents, drain, forget, started, stop
from tests.support.gossip import GossipDaemon, create_id, go, older, settle, wait
from tests.support.recorded_trio import HOST, LEADER, MEETING, Trio, ids_of, lists

NEW_NODES = ("x1:1", "x2:1", "x3:1", "x1:1")
ENOUGH_FOR_EXPIRY = 340


def established(compacted: str = NAMES) -> Trio:
    """Daemons that have been through everything that leaves traces, and agree."""
    clock = Clock()
    network = RecordingNetwork(clock)
    seeds = {name: ["a"] if name != "a" else [] for name in NAMES}
    daemons = {name: GossipDaemon(network, name, seeds[name], unused_days=3 * 60 / DAY) for name in NAMES}
    trio = Trio(network, daemons)
    trio.settle(MEETING)
    for name in NAMES:
        # An ID without nodes expires.
        trio.create(name)
        full = trio.create(name)
        for number in range(1, 4):
            trio.register(name, full, f"n{number}:4001")
    trio.settle(ENOUGH_FOR_EXPIRY)
    for name, daemon in daemons.items():
        emptied, led, claimed, bound, removed, _ = (trio.create(name) for _ in range(6))
        trio.register(name, emptied, "n1:4001")
        go(daemon.directory.remove(emptied, "n1:4001"))
        go(daemon.directory.claim(led, decode_put(LEADER), HOST))
        go(daemon.directory.report(led, decode_put(LEADER), HOST))
        go(daemon.directory.claim(claimed, decode_put(LEADER), HOST))
        trio.register(name, bound, "localhost:4001", HOST)
        for number in (1, 2):
            trio.register(name, removed, f"n{number}:4001")
        go(daemon.directory.remove(removed, "n1:4001"))
    trio.outcome(daemons["a"].directory.claim("orders", decode_put(LEADER), HOST))
    trio.outcome(daemons["b"].directory.report("orders", decode_put(LEADER), HOST))
    full = ids_of(daemons["a"], daemons["b"])[0]
    daemons["b"].stop()
    trio.settle()
    trio.register("a", full, "n4:4001")
    trio.restart("b")
    trio.settle(MEETING)
    # Snapshots hold a part, the journal the rest.
    for name in compacted:
        trio.compact(name)
    trio.register("a", ids_of(trio["a"], trio["a"])[0], "n5:4001")
    trio.settle(40)
    return trio


def hints() -> Trio:
    """One daemon was down, restarted, and met nobody; all hold hints."""
    trio = established()
    of_a, of_b = (ids_of(trio["a"], trio[name])[0] for name in "ab")
    trio["b"].stop()
    trio.settle()
    trio.register("a", of_b, "h1:4001")
    trio.register("c", of_b, "h2:4001")
    trio.register("c", of_b, "h3:4001", HOST)
    trio.network.split("b")
    trio.restart("b")
    trio.settle()
    trio.register("b", of_b, "h4:4001")
    trio.register("b", of_a, "h5:4001")
    return trio


def leaving() -> Trio:
    """One daemon is lost, and not all have agreed to forget it."""
    trio = established()
    trio["c"].stop()
    trio.network.split("b")
    trio.settle()
    assert trio.outcome(forget(trio["a"], "c")) == NoSuccessor.__name__
    return trio


def forgotten() -> Trio:
    """One daemon is lost and forgotten."""
    trio = established()
    trio["c"].stop()
    trio.settle()
    wait(trio.clock, forget(trio["a"], "c"))
    return trio


def drained() -> Trio:
    """One daemon has handed its IDs over."""
    trio = established()
    assert wait(trio.clock, drain(trio["c"], "a")) == "a"
    trio.settle()
    return trio


def pending() -> Trio:
    """The owner of an ID was killed before a grant was answered, which others have received."""
    trio = established()
    unused = ids_of(trio["a"], trio["a"])[6]
    trio.network.swallowed.add(("a", "push"))
    granting = Deferred.fromCoroutine(trio["a"].directory.register(unused, Node(addr="n1:4001"), None))
    granting.addErrback(lambda _: None)
    assert not granting.called
    return trio


def behind() -> Trio:
    """An owner runs on a disk that was restored, and has decided something before it met others."""
    trio = established()
    before = older(trio["b"].disk)
    trio.register("b", ids_of(trio["b"], trio["b"])[0], "n6:4001")
    lost = create_id(trio["b"])
    trio.register("b", lost, "n1:4001")
    trio.settle()
    trio.network.split("b")
    trio.restart("b", before)
    trio.settle()
    create_id(trio["b"])
    return trio


def delivered() -> Trio:
    """A daemon does not know that its hint was added; the node of the hint was removed since."""
    trio = established()
    of_b = ids_of(trio["a"], trio["b"])[0]
    trio["b"].stop()
    trio.settle()
    trio.register("a", of_b, "h1:4001")
    trio.network.swallowed.add(("a", "hints"))
    trio.restart("b")
    trio.settle(1)
    assert "h1:4001" in lists(trio["b"])[of_b]
    go(trio["b"].directory.remove(of_b, "h1:4001"))
    return trio


def local() -> Trio:
    """Nodes on the machines of the daemons were just told to bootstrap."""
    trio = established()
    for name in NAMES:
        trio.register(name, trio.create(name), "n1:4001", THIS_MACHINE)
    return trio


def frozen() -> Trio:
    """An operator has frozen a daemon."""
    trio = established()
    go(trio["b"].directory.freeze("moved to another host"))
    trio.settle()
    return trio


SITUATIONS: dict[str, tuple[Callable[[], Trio], str]] = {
    "established": (lambda: established("ab"), ""),
    "hints": (hints, ""),
    "leaving": (leaving, "c"),
    "forgotten": (forgotten, "c"),
    "drained": (drained, ""),
    "pending": (pending, ""),
    "behind": (behind, ""),
    "delivered": (delivered, ""),
    "local": (local, ""),
    "frozen": (frozen, ""),
}


def observe(name: str) -> dict[str, Any]:
    """Return what is seen of the daemons of a situation: each alone, all together, and what they
    answer then.
    """
    alone: dict[str, Any] = {}
    for each in NAMES:
        network, daemons = started(name, each)
        settle(network.clock, 1)
        alone |= {who: {"cluster": cluster(daemon), "lists": lists(daemon)} for who, daemon in daemons.items()}
        stop(network)
    network, daemons = started(name)
    trio = Trio(network, daemons)
    trio.settle(2 * MEETING)
    clusters = {who: cluster(daemon) for who, daemon in daemons.items()}
    found = [contents(daemon) for daemon in daemons.values()]
    # Grants of the situation are no longer repeated.
    trio.settle(40)
    answers = {
        discovery_id: [trio.register(who, discovery_id, addr) for who, addr in zip("abab", NEW_NODES, strict=True)]
        for discovery_id in found[0]
    }
    is_created = [not isinstance(trio.outcome(daemon.directory.create()), str) for daemon in daemons.values()]
    trio.settle(MEETING)
    agreed = len({str(lists(daemon)) for daemon in daemons.values()}) == 1
    stop(network)
    return {
        "alone": alone,
        "clusters": clusters,
        "records": found[0],
        "differing records": [each for each in found if each != found[0]],
        "answers": answers,
        "can create": is_created,
        "agreed in the end": agreed,
    }
