"""Three daemons on a network that records what they send."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.task import Clock

from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.storage.compaction import compact
from tests.support.daemon import STATE, result
from tests.support.disk import ModelDisk
from tests.support.golden_peers import RecordingNetwork, contents
from tests.support.gossip import GossipDaemon, create_id, settle, wait

HOST = "192.0.2.1"
LEADER = b'{"id":"n1","api_addr":"http://n1:4001","addr":"n1:4002"}'
# How long daemons that start take to meet.
MEETING = 5


class Trio:
    """The daemons by name, and requests to them."""

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


def lists(daemon: GossipDaemon) -> dict[str, list[str]]:
    """Return the addresses in all records of a daemon."""
    return {key: [node["addr"] for node in record.get("nodes", ())] for key, record in contents(daemon).items()}
