"""The clock, network and randomness of a daemon."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.gossip.transport.links import Link
from rqdisco.core.ids import RandomBytes
from rqdisco.core.records import Moment


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """`link` makes a Link to a URL, `now` returns the monotonic time, `jitter` factors around 1."""

    clock: IReactorTime
    link: Callable[[str], Link]
    now: Callable[[], Moment]
    wall_us: Callable[[], int]
    random: RandomBytes
    jitter: Callable[[], float]

    def wall_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return self.wall_us() // 1000

    def random_name(self) -> str:
        """Return an unguessable name."""
        return self.random(8).hex()
