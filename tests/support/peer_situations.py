"""Situations of three daemons, and conversations that begin in them. `tests.support.golden_peers`
reads what was recorded of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.limits import Limits
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import NoSuccessor, RequestRefused, StoreUnavailable
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.storage.compaction import compact
from tests.support.daemon import DAY, STATE, result
from tests.support.disk import ModelDisk
from tests.support.golden_peers import (
    NAMES,
    RecordingNetwork,
    cluster,
    contents,
    drain,
    forget,
    owner_of_name,
    started,
    stop,
)
from tests.support.gossip import GossipDaemon, create_id, go, older, settle, wait

HOST = "192.0.2.1"
OTHER_HOST = "192.0.2.2"
LEADER = b'{"id":"n1","api_addr":"http://n1:4001","addr":"n1:4002"}'
OTHER_LEADER = b'{"id":"n2","api_addr":"http://n2:4001","addr":"n2:4002"}'
# How long daemons that start take to meet.
MEETING = 5
NEW_NODES = ("x1:1", "x2:1", "x3:1", "x1:1")
ENOUGH_FOR_EXPIRY = 340


class Trio:
    """Three daemons on a network that records what they send."""

    def __init__(self, network: RecordingNetwork, daemons: dict[str, GossipDaemon]) -> None:
        self.network, self.clock, self.daemons = network, network.clock, daemons

    def __getitem__(self, name: str) -> GossipDaemon:
        return self.daemons[name]

    def restart(self, name: str, disk: ModelDisk | None = None) -> None:
        """Restart a daemon."""
        self.daemons[name] = self.daemons[name].restart(disk)

    def settle(self, seconds: float = 3) -> None:
        """Let time pass."""
        settle(self.clock, seconds)

    def create(self, name: str) -> str:
        """Create an ID at a daemon."""
        self.settle(0.1)
        return create_id(self.daemons[name])

    def compact(self, name: str) -> None:
        """Have all but the last of a daemon's journal in its snapshot."""
        own = ids_of(self.daemons[name], self.daemons[name])[0]
        for number in range(1, 4):
            self.register(name, own, f"m{number}:4001")
            compact(self.daemons[name].disk, STATE, result(self.daemons[name].journal.seal()))

    def outcome(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a request, or the kind of its refusal."""
        return outcome(self.clock, coroutine)

    def register(self, name: str, discovery_id: str, addr: str, host: str | None = None) -> Any:
        """Register a node at a daemon; return the listed addresses, or the kind of refusal."""
        found = self.outcome(self.daemons[name].directory.register(discovery_id, Node(addr=addr), host))
        return found if isinstance(found, str) else [node.addr for node in found.listed]


def outcome(clock: Clock, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a request, or the kind of its refusal."""
    try:
        return wait(clock, coroutine, 0.3)
    except (RequestRefused, StoreUnavailable) as refusal:
        return type(refusal).__name__


def ids_of(daemon: GossipDaemon, owner: GossipDaemon) -> list[str]:
    """Return the IDs of an owner, in the order in which they were created."""
    found = contents(daemon)
    return sorted(
        (each for each in found if found[each]["home"] == owner.owner), key=lambda each: found[each]["created_at"]
    )


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


def lists(daemon: GossipDaemon) -> dict[str, list[str]]:
    """Return the addresses in all records of a daemon."""
    return {key: [node["addr"] for node in record.get("nodes", ())] for key, record in contents(daemon).items()}


def calls(trio: Trio) -> None:
    """Requests of clients that arrive at another daemon than the owner."""
    a, b = trio["a"].directory, trio["b"]
    full, emptied, led, claimed, bound, removed, unused, *_ = ids_of(trio["a"], b)
    for addr in ("n1:4001", "n1:4001", "n2:4001"):
        trio.register("a", unused, addr, HOST)
    trio.register("a", full, "n9:4001")
    trio.register("a", emptied, "n2:4001")
    trio.register("a", bound, "localhost:4002", HOST)
    trio.register("a", bound, "localhost:4003", OTHER_HOST)
    trio.register("a", claimed, "n3:4001")
    trio.outcome(a.claim(claimed, decode_put(LEADER), HOST))
    trio.outcome(a.claim(claimed, decode_put(OTHER_LEADER), OTHER_HOST))
    trio.outcome(a.clear_leader(claimed))
    trio.outcome(a.claim(emptied, decode_put(LEADER), HOST))
    trio.outcome(a.report(led, decode_put(LEADER, 7), HOST))
    trio.outcome(a.report(led, decode_put(OTHER_LEADER), OTHER_HOST, 1))
    trio.outcome(a.clear_leader(led, 1))
    trio.outcome(a.clear_leader(led))
    trio.outcome(a.remove(removed, "n2:4001"))
    trio.outcome(a.remove(removed, "n2:4001"))
    trio.outcome(a.look_up_at_owner(full))
    unknown = f"{b.owner[:4]}0000-0000-8000-8000-000000000000"
    trio.register("a", unknown, "n1:4001")
    trio.outcome(a.claim(unknown, decode_put(LEADER), HOST))
    unclaimed = next(each for each in map(str, range(99)) if owner_of_name(b, each) == b.owner)
    trio.outcome(a.claim(unclaimed, decode_put(LEADER), HOST))


def crowded(trio: Trio) -> None:
    """An owner whose IDs are full."""
    trio.register("a", ids_of(trio["a"], trio["b"])[0], "n9:4001")
    trio.register("a", ids_of(trio["a"], trio["b"])[0], "n9:4001")


def pushes(trio: Trio) -> None:
    """An owner's own decisions, which it pushes, and a grant on an emptied list."""
    full, emptied, _, _, _, _, unused, *_ = ids_of(trio["a"], trio["a"])
    trio.register("a", full, "n9:4001")
    trio.register("a", unused, "n1:4001")
    trio.register("a", emptied, "n2:4001")
    create_id(trio["a"])
    go(trio["a"].directory.claim(create_id(trio["a"]), decode_put(LEADER), HOST))
    trio.settle()


def late_hints(trio: Trio) -> None:
    """Hints that are delivered, and hints that only a barrier brings."""
    full = ids_of(trio["a"], trio["a"])[0]
    for addr in [node.addr for node in go(trio["a"].directory.look_up(full)).nodes]:
        go(trio["a"].directory.remove(full, addr))
    trio.register("a", full, "n9:4001")
    trio.settle()


def unready(trio: Trio) -> None:
    """The owner has not met all others since its start."""
    of_b = ids_of(trio["a"], trio["b"])
    trio.register("a", of_b[0], "n9:4001")
    trio.register("a", of_b[1], "n9:4001")
    trio.outcome(trio["a"].directory.look_up_at_owner(of_b[0]))


def ownerless(trio: Trio) -> None:
    """IDs of a lost daemon, whose owner is another one now."""
    lost = [each for each, line in contents(trio["b"]).items() if line.get("lost")]
    for discovery_id in lost:
        trio.register("b", discovery_id, "n9:4001")


def to_forget(trio: Trio) -> None:
    """A daemon is forgotten."""
    wait(trio.clock, forget(trio["a"], "c"))
    trio.settle()


def to_drain(trio: Trio) -> None:
    """A daemon hands its IDs over."""
    wait(trio.clock, drain(trio["a"], "b"))
    trio.settle()


def to_drain_too_early(trio: Trio) -> None:
    """A daemon cannot hand its IDs over to one that may not decide itself."""
    trio.outcome(drain(trio["a"], "b"))
    trio.settle()


def nothing(trio: Trio) -> None:
    """Daemons that only meet."""


def probes(trio: Trio) -> None:
    """Requests that the receiver must refuse."""
    a, b, c = (trio[name].owner for name in NAMES)
    full = ids_of(trio["a"], trio["b"])[0]
    hello = next(each.request for each in trio.network.exchanges[::-1] if each.verb == "hello" and each.sender == "a")
    link = trio.network.link("a")("http://b")
    result(link.greet(hello.encode(), 5))
    unknown = f"{b[:4]}0000-0000-8000-8000-000000000000"
    record = {"id": "x", "home": c, "version": 1, "created_at": 1}
    refused: list[tuple[str, dict[str, Any]]] = [
        ("unknown", {}),
        ("digest", {}),
        ("call", {"home": c, "op": "look_up", "request": "1", "ms": 4000, "id": full}),
        ("call", {"home": b, "op": "look_up", "request": "2", "ms": 4000, "id": ids_of(trio["a"], trio["c"])[0]}),
        ("call", {"home": b, "op": "register", "request": "3", "ms": 4000, "id": full}),
        ("call", {"home": b, "op": "look_up", "request": "4", "ms": 0, "id": full}),
        ("call", {"home": b, "op": "look_up", "request": "5", "ms": 4000, "id": full, "until": {"boot": 1, "ms": 1}}),
        (
            "call",
            {
                "home": b,
                "op": "register",
                "request": "6",
                "ms": 4000,
                "id": unknown,
                "node": {"addr": "n1:1"},
            },
        ),
        (
            "call",
            {
                "home": b,
                "op": "claim",
                "request": "7",
                "ms": 4000,
                "id": unknown,
                "put": {"node": {"addr": "n1:1"}, "value": "{}"},
            },
        ),
        ("push", {"delta": {"home": c, "after": 0, "upto": 1, "records": []}}),
        ("push", {"delta": {"home": a, "after": 0, "upto": 1, "records": [{"id": "x"}]}}),
        ("barrier", {"home": c, "record": record}),
        ("hints", {"home": c, "of": c, "hints": []}),
        ("agree", {"incarnation": "0" * 16, "successor": a}),
        ("succeed", {"incarnation": c, "successor": b}),
        ("succeed", {"incarnation": a, "successor": c}),
    ]
    for verb, body in refused:
        link.request(verb, msgspec.json.encode(body), 5).addErrback(lambda failure: failure.trap(PeerError))
        trio.settle(0.1)
    for document in (dict(json.loads(hello), protocol=[2, 3]), dict(json.loads(hello), name="")):
        link.greet(msgspec.json.encode(document), 5).addErrback(lambda failure: failure.trap(PeerError))


# The situation, who acts, who does not run, what is never sent, and what is done.
Script = tuple[str, str, str, Sequence[tuple[str, str]], Callable[[Trio], None]]
CONVERSATIONS: dict[str, Script] = {
    "calls": ("established", "a", "", (), calls),
    "pushes": ("established", "a", "", (), pushes),
    "hints": ("hints", "a", "", (("b", "hints"),), late_hints),
    "unready": ("hints", "a", "c", (), unready),
    "frozen": ("frozen", "a", "", (), crowded),
    "crowded": ("established", "a", "", (), crowded),
    "ownerless": ("forgotten", "b", "c", (), ownerless),
    "leaving": ("leaving", "a", "c", (), to_forget),
    "agree": ("established", "a", "c", (), to_forget),
    "drained": ("drained", "c", "", (), nothing),
    "succeed": ("established", "a", "", (), to_drain),
    "behind": ("behind", "b", "", (), nothing),
    "pending": ("pending", "a", "", (), nothing),
    "probes": ("established", "a", "", (), probes),
}


# How many nodes an ID may have.
MAX_NODES = {"crowded": 7}


def converse(name: str) -> RecordingNetwork:
    """Have a conversation; return the network with its messages."""
    situation, _, absent, dropped, script = CONVERSATIONS[name]
    limits = Limits(max_nodes=MAX_NODES.get(name, 1000))
    network, daemons = started(situation, "".join(each for each in NAMES if each not in absent), limits)
    network.dropped |= set(dropped)
    settle(network.clock, MEETING)
    script(Trio(network, daemons))
    stop(network)
    return network


def newcomer() -> RecordingNetwork:
    """A daemon with an empty disk joins, and is sent all records in pages."""
    network, _ = started("established", "ab")
    GossipDaemon(network, "c", ["a"], seed=7)
    settle(network.clock, MEETING)
    stop(network)
    return network
