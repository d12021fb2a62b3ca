"""What a process has of the system that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rqdisco.core.errors import CannotListen
from rqdisco.core.ids import RandomBytes


class System(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has of its system.

    `uptime` gives the seconds since the boot that `boot_id` names, `wall_us` the wall clock in
    microseconds, `jitter` numbers around 1; `descriptors` has the system allow so many connections,
    and says how many it does; `on_hangup` adds what is done at SIGHUP; `refuse` ends the process
    where it cannot listen, `fail` where it can acknowledge nothing any more.
    """

    reactor: Any
    environment: Mapping[str, str]
    pid: int
    boot_id: str
    wall_us: Callable[[], int]
    uptime: Callable[[], float]
    random: RandomBytes
    jitter: Callable[[], float]
    descriptors: Callable[[int], int]
    on_hangup: Callable[[Callable[[], None]], None]
    refuse: Callable[[CannotListen], None]
    fail: Callable[[str], None]

    def wall(self) -> float:
        """The wall clock in seconds."""
        return self.wall_us() / 1_000_000
