"""The faults of nodes, networks and clocks, whatever the backend of the daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulated.nodes import SimNode

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

FAULTS = (
    "answers",
    "partitions",
    "crashes",
    "disks",
    "rollbacks",
    "copies",
    "clocks",
    "full",
    "removals",
    "drains",
    "wipes",
    "stalls",
    "repeats",
    "replacements",
)
# With this fault, daemons forget IDs that never had a node.
EXPIRY = "expiry"
# With this one, nodes of rqlited 6 are left at its default, and register loopback addresses.
LOOPBACK = "loopback"


class Faults:
    """`kinds` are the possible faults; `spite` is how often one happens at the worst moment."""

    def __init__(self, world: AnyWorld, kinds: tuple[str, ...], random: Random) -> None:
        self._world: Any = world
        self._random = random
        self.kinds = kinds
        self.are_over = False
        self.spite = self._random.choice((0.0, 0.3, 0.6))

    def strike(self, kind: str, **given: Any) -> None:
        """Carry out a fault by the method of its kind."""
        getattr(self, f"on_{kind}")(**given)

    def before_a_call(self) -> None:
        """A client is about to send a request."""

    def during_a_request(self, what: str, key: str, is_at_owner: bool) -> None:
        """A daemon has begun to serve a request."""

    def after_creation(self, owner: str | None) -> None:
        """The first nodes of an ID are about to register."""

    def after_a_grant(self, owner: str) -> None:
        """A daemon has just granted a node."""

    def _strikes(self) -> bool:
        return not self.are_over and self._random.random() < self.spite

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._world.timeline.callLater(seconds, call)

    # Networks and clocks.

    def _cut(self, pairs: set[tuple[str, str]], text: str) -> None:
        self.strike("cut", pairs=sorted(pairs), seconds=self._random.choice((2, 10, 40)), text=text)

    def on_cut(self, pairs: Iterable[Iterable[str]], seconds: float, text: str) -> None:
        severed = {(one, other) for one, other in pairs}
        self._world.trace.log(text)
        self._world.net.sever(severed)

        def heal() -> None:
            self._world.acts()
            self._world.net.rejoin(severed)
            self._world.trace.log("links healed")

        self._later(seconds, heal)

    def _jump(self) -> None:
        host = self._random.choice(self._world.hosts)
        self.strike("jump", host=host.name, seconds=self._random.choice((-86400, -60, 60, 86400)))

    def on_jump(self, host: str, seconds: float) -> None:
        for each in self._world.hosts:
            each.skew += seconds if each.name == host else 0

    # Nodes.

    def _some_node(self) -> SimNode | None:
        running = [node for node in self._world.nodes.values() if node.is_up]
        return self._random.choice(running) if running else None

    def _crash_node(self) -> None:
        node = self._some_node()
        if node is not None:
            self.strike("crash_node", node=node.addr)

    def on_crash_node(self, node: str) -> None:
        found = self._running(node)
        if found is not None:
            found.stop()
            self._world.trace.log(f"{node} dies")
            self._later(5, found.start)

    def _wipe_node(self) -> None:
        node = self._some_node()
        if node is not None:
            self.strike("wipe_node", node=node.addr)

    def on_wipe_node(self, node: str) -> None:
        found = self._running(node)
        if found is not None:
            found.stop()
            found.lose_data()
            self._world.trace.log(f"{node} loses its data")
            self._later(5, found.start)

    def _replace_node(self, node: SimNode | None = None) -> None:
        node = node or self._some_node()
        if node is not None and node.is_up:
            self.strike("replace_node", node=node.addr, seconds=self._random.choice((0.5, 5, 35)))

    def on_replace_node(self, node: str, seconds: float) -> None:
        found = self._running(node)
        if found is not None:
            self._world.operator.replace_node(found, seconds)

    def _running(self, addr: str) -> SimNode | None:
        node = next((each for each in self._world.nodes.values() if each.addr == addr), None)
        return node if node is not None and node.is_up else None
