"""The timers and network of a daemon with peers."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.environment import Environment
from rqdisco.backends.gossip.transport.links import Link


class GossipEnvironment(Environment, frozen=True, kw_only=True):
    """`link` makes a Link to a URL."""

    clock: IReactorTime
    link: Callable[[str], Link]

    def random_name(self) -> str:
        """Return an unguessable name."""
        return self.random(8).hex()
