"""The timers and network of a daemon with peers."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.environment import Environment
from rqdisco.backends.gossip.transport.links import Link


class GossipEnvironment(Environment, frozen=True, kw_only=True):
    """`link` makes a Link to a URL, `jitter` returns factors around 1."""

    clock: IReactorTime
    link: Callable[[str], Link]
    jitter: Callable[[], float]

    def wall_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return self.wall_us() // 1000

    def random_name(self) -> str:
        """Return an unguessable name."""
        return self.random(8).hex()
