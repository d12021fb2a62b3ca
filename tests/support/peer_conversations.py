"""Conversations of three daemons, each of which begins in one of the situations of
`tests.support.peer_situations`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.backends.limits import Limits
from rqdisco.core.codec import decode_put
from tests.support.daemon import result
from tests.support.golden_peers import NAMES, RecordingNetwork, contents, drain, forget, owner_of_name, started, stop
from tests.support.gossip import GossipDaemon, create_id, go, settle, wait
from tests.support.recorded_trio import HOST, LEADER, MEETING, Trio, ids_of

OTHER_HOST = "192.0.2.2"
OTHER_LEADER = b'{"id":"n2","api_addr":"http://n2:4001","addr":"n2:4002"}'


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
